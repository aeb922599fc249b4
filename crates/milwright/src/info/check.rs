//! Whether a model supports a task.

use crate::kinds::{Computed, part_name};
use crate::{Can, Error, ErrorKind, ModelInfo, ModelKind, Result, Task};

impl ModelInfo {
    /// Checks that the model supports a task. All models of a pipeline must support it; but optimizing and converting
    /// need only one that does.
    ///
    /// # Errors
    /// The model does not support it. The error names the model of the pipeline that prevents it, and the reason.
    pub fn check(&self, task: Task) -> Result<()> {
        let kind = self.kind;
        match kind.map_or(Can::No("the type is not known"), |kind| kind.can(task)) {
            Can::Yes => Ok(()),
            // The decoder bounds how deep pipelines nest.
            Can::WithParts => {
                let check = |(i, part): (usize, &ModelInfo)| {
                    if task == Task::Compile && part.is_kept_as_specification() {
                        return Ok(());
                    }
                    part.check(task).map_err(|e| e.within(&part_name(i, &self.pipeline_names)))
                };
                let mut parts = self.pipeline.iter().enumerate().map(check);
                match task {
                    // Models that do not support it stay as they are.
                    Task::Optimize | Task::Convert => {
                        let refusals: Vec<Error> = parts.clone().filter_map(Result::err).collect();
                        match refusals.len() == self.pipeline.len() {
                            true => refusals.into_iter().next().map_or(Ok(()), Err),
                            false => Ok(()),
                        }
                    }
                    // Prefers a model that cannot be compiled even after a conversion. An error that advises to
                    // convert a network would not help if the pipeline also contains trees.
                    Task::Compile => {
                        let blocked = self.pipeline.iter().position(|part| !part.compiles_when_converted());
                        match blocked.and_then(|i| parts.clone().nth(i)) {
                            Some(refusal) => refusal,
                            None => parts.try_for_each(|part| part),
                        }
                    }
                    _ => parts.try_for_each(|part| part),
                }
            }
            Can::No(reason) => {
                let verb = task.participle();
                let message =
                    format!("a model of type {}, which cannot be {verb}: {reason}", self.model_type());
                let error = Error::new(ErrorKind::Unsupported, message);
                Err(match kind.and_then(|kind| kind.instead(task)) {
                    Some(hint) => error.with_hint(hint),
                    None => error,
                })
            }
        }
    }
}

impl ModelInfo {
    /// Whether a compiled pipeline keeps this model as its specification.
    pub(crate) fn is_kept_as_specification(&self) -> bool {
        self.kind.is_some_and(ModelKind::is_kept_as_specification)
    }

    /// Whether the model could be compiled if its networks were converted to ML programs.
    fn compiles_when_converted(&self) -> bool {
        let Some(kind) = self.kind else { return false };
        match kind.can(Task::Compile) {
            Can::Yes => true,
            Can::WithParts => self.pipeline.iter().all(ModelInfo::compiles_when_converted),
            Can::No(_) => kind.computed() == Computed::Network || kind.is_kept_as_specification(),
        }
    }
}

#[cfg(test)]
mod tests {
    use milwright_formats::proto::{self as pb, model};

    use super::*;

    #[test]
    fn the_part_that_is_in_the_way_is_named() {
        let part =
            |r#type| pb::Model { specification_version: 3, r#type: Some(r#type), ..Default::default() };
        let print = part(model::Type::VisionFeaturePrint(Default::default()));
        let head = part(model::Type::Scaler(Default::default()));
        let inner =
            pb::Pipeline { models: vec![head.clone(), print], names: vec![String::new(), "eye".into()] };
        let inner = part(model::Type::Pipeline(inner));
        let outer = pb::Pipeline { models: vec![head, inner], names: Vec::new() };
        let outer = pb::PipelineClassifier { pipeline: Some(outer) };
        let info = ModelInfo::new(&part(model::Type::PipelineClassifier(outer)));
        assert!(!info.runnable);
        let error = info.check(Task::Run).unwrap_err();
        let text = error.to_string();
        assert_eq!(
            text,
            "model 2 of the pipeline: model 2 of the pipeline, `eye`: a model of type visionFeaturePrint, which cannot be \
             run: its network is a part of Apple's Vision framework, and in no file"
        );
    }
}
