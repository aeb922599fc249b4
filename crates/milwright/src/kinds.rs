//! The table of model types: what each type is, what computes it in Milwright, and which tasks it supports.
//!
//! This table is the only place with this knowledge. Opening, optimizing, compiling and converting consult it,
//! `inspect` shows it, and `docs/models.md` is made from it.

use milwright_formats::proto::{self as pb, model};

/// One of the 37 types of model that a Core ML file can have.
#[derive(Debug, PartialEq, Eq)]
pub struct ModelKind {
    name: &'static str,
    computed: Computed,
}

/// What computes the models of a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Computed {
    /// The engine, because it is an ML program.
    Program,
    /// The engine, after the network was converted to a program.
    Network,
    /// Plain code in double precision.
    Numbers,
    /// Its own models, one after the other.
    Parts,
    /// Nothing, for this reason.
    Not(&'static str),
}

/// A task that users perform with models.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Describing it.
    Inspect,
    /// Running it.
    Run,
    /// Comparing its outputs with those of another model.
    Compare,
    /// Measuring how fast it is.
    Bench,
    /// Making it smaller.
    Optimize,
    /// Writing it as Core ML's compiler does.
    Compile,
    /// Writing it as an ML program.
    Convert,
}

/// Whether models of a type support a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Can {
    /// Always.
    Yes,
    /// If the models that this one consists of support it.
    WithParts,
    /// Never, for this reason.
    No(&'static str),
}

impl Task {
    /// What a model that does not support it cannot be, in words.
    pub(crate) fn participle(self) -> &'static str {
        match self {
            Task::Run => "run",
            Task::Compare => "compared",
            Task::Bench => "measured",
            Task::Optimize => "optimized",
            Task::Compile => "compiled",
            Task::Convert => "converted to an ML program",
            Task::Inspect => "described",
        }
    }

    /// All tasks.
    pub const ALL: [Task; 7] =
        [Task::Inspect, Task::Run, Task::Compare, Task::Bench, Task::Optimize, Task::Compile, Task::Convert];

    /// The name of the subcommand.
    pub fn name(self) -> &'static str {
        match self {
            Task::Inspect => "inspect",
            Task::Run => "run",
            Task::Compare => "compare",
            Task::Bench => "bench",
            Task::Optimize => "optimize",
            Task::Compile => "compile",
            Task::Convert => "convert",
        }
    }
}

const NOT_PUBLISHED: &str = "its compiled form is not published";
const LANGUAGE: Computed =
    Computed::Not("its parameters are private data of Apple's Natural Language framework");

macro_rules! kinds {
    ($($variant:ident $name:literal $computed:expr,)*) => {
        impl ModelKind {
            /// All types, in the order of the specification.
            pub const ALL: &[ModelKind] = &[$(ModelKind { name: $name, computed: $computed }),*];

            /// The type of a model; `None` if it is unknown.
            pub(crate) fn of(model: &pb::Model) -> Option<&'static ModelKind> {
                let name = match model.r#type.as_ref()? {
                    $(model::Type::$variant(_) => $name,)*
                };
                ModelKind::named(name)
            }
        }
    };
}

kinds! {
    PipelineClassifier "pipelineClassifier" Computed::Parts,
    PipelineRegressor "pipelineRegressor" Computed::Parts,
    Pipeline "pipeline" Computed::Parts,
    GlmRegressor "glmRegressor" Computed::Numbers,
    SupportVectorRegressor "supportVectorRegressor" Computed::Numbers,
    TreeEnsembleRegressor "treeEnsembleRegressor" Computed::Numbers,
    NeuralNetworkRegressor "neuralNetworkRegressor" Computed::Network,
    BayesianProbitRegressor "bayesianProbitRegressor"
        Computed::Not("the steepness of its curve (beta in the format's formula) is in no field of it"),
    GlmClassifier "glmClassifier" Computed::Numbers,
    SupportVectorClassifier "supportVectorClassifier" Computed::Numbers,
    TreeEnsembleClassifier "treeEnsembleClassifier" Computed::Numbers,
    NeuralNetworkClassifier "neuralNetworkClassifier" Computed::Network,
    KNearestNeighborsClassifier "kNearestNeighborsClassifier" Computed::Numbers,
    NeuralNetwork "neuralNetwork" Computed::Network,
    ItemSimilarityRecommender "itemSimilarityRecommender"
        Computed::Not("the format does not say which items it lists, nor in which order those of one score come"),
    MlProgram "mlProgram" Computed::Program,
    CustomModel "customModel" Computed::Not("it is computed by code of the app that it belongs to"),
    LinkedModel "linkedModel" Computed::Not("it names a compiled model inside an app, which is not a part of it"),
    ClassConfidenceThresholding "classConfidenceThresholding" Computed::Numbers,
    OneHotEncoder "oneHotEncoder" Computed::Numbers,
    Imputer "imputer" Computed::Numbers,
    FeatureVectorizer "featureVectorizer" Computed::Numbers,
    DictVectorizer "dictVectorizer" Computed::Numbers,
    Scaler "scaler" Computed::Numbers,
    CategoricalMapping "categoricalMapping" Computed::Numbers,
    Normalizer "normalizer" Computed::Numbers,
    ArrayFeatureExtractor "arrayFeatureExtractor" Computed::Numbers,
    NonMaximumSuppression "nonMaximumSuppression" Computed::Numbers,
    Identity "identity" Computed::Numbers,
    TextClassifier "textClassifier" LANGUAGE,
    WordTagger "wordTagger" LANGUAGE,
    VisionFeaturePrint "visionFeaturePrint"
        Computed::Not("its network is a part of Apple's Vision framework, and in no file"),
    SoundAnalysisPreprocessing "soundAnalysisPreprocessing"
        Computed::Not("the format does not say how its filters for pitches are shaped"),
    Gazetteer "gazetteer" LANGUAGE,
    WordEmbedding "wordEmbedding" LANGUAGE,
    AudioFeaturePrint "audioFeaturePrint"
        Computed::Not("its network is a part of Apple's Sound Analysis framework, and in no file"),
    SerializedModel "serializedModel" Computed::Not("its content is private to Apple"),
}

impl ModelKind {
    /// Looks a type up by its name, such as `mlProgram`.
    pub fn named(name: &str) -> Option<&'static ModelKind> {
        ModelKind::ALL.iter().find(|kind| kind.name == name)
    }

    /// The name, as in the specification.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// What computes the models of this type, in words.
    pub fn computed_by(&self) -> &'static str {
        match self.computed {
            Computed::Program => "the engine",
            Computed::Network => "the engine, as the ML program that it becomes",
            Computed::Numbers => "plain code, in double precision",
            Computed::Parts => "its models, one after the other",
            Computed::Not(reason) => reason,
        }
    }

    pub(crate) fn computed(&self) -> Computed {
        self.computed
    }

    /// Returns whether models of this type support a task.
    ///
    /// ```
    /// use milwright::{Can, ModelKind, Task};
    ///
    /// let network = ModelKind::named("neuralNetwork").unwrap();
    /// assert_eq!(network.can(Task::Convert), Can::Yes);
    /// assert!(matches!(network.can(Task::Compile), Can::No(_)));
    /// ```
    pub fn can(&self, task: Task) -> Can {
        use Computed as C;
        match (task, self.computed) {
            (Task::Inspect, _) => Can::Yes,
            (_, C::Not(reason)) => Can::No(reason),
            (_, C::Parts) => Can::WithParts,
            (Task::Run | Task::Compare | Task::Bench, _) | (_, C::Program) => Can::Yes,
            (Task::Optimize | Task::Convert, C::Network) => Can::Yes,
            (Task::Optimize, C::Numbers) => Can::No("it has no weights that could be stored in fewer bits"),
            (Task::Convert, C::Numbers) => Can::No("an ML program cannot express it in double precision"),
            (Task::Compile, C::Network) => Can::No("compiled neural networks are not written"),
            (Task::Compile, C::Numbers) if self.is_kept_as_specification() => {
                Can::No("its compiled form is known as a part of a pipeline only")
            }
            (Task::Compile, C::Numbers) => Can::No(NOT_PUBLISHED),
        }
    }

    /// Whether Core ML's compiler keeps a model of this type in a pipeline as its specification. A sample file shows
    /// this for feature vectorizers; for other types it is unknown.
    pub(crate) fn is_kept_as_specification(&self) -> bool {
        self.name == "featureVectorizer"
    }

    /// What to do instead, if anything.
    pub(crate) fn instead(&self, task: Task) -> Option<&'static str> {
        match (task, self.computed) {
            (_, Computed::Not(_)) => Some("`milwright inspect` describes it"),
            (Task::Compile, Computed::Network) => {
                Some("`milwright convert` writes it as an ML program, which can be compiled")
            }
            (Task::Compile, _) => Some("Xcode and Core ML compile it, on a Mac"),
            _ => None,
        }
    }
}

/// The pipeline message of a model, if it is a pipeline.
pub(crate) fn pipeline(model: &pb::Model) -> Option<&pb::Pipeline> {
    match &model.r#type {
        Some(model::Type::Pipeline(p)) => Some(p),
        Some(model::Type::PipelineClassifier(p)) => p.pipeline.as_ref(),
        Some(model::Type::PipelineRegressor(p)) => p.pipeline.as_ref(),
        _ => None,
    }
}

/// The name of a pipeline's model in messages: its number, and its own name if it has one.
pub(crate) fn part_name(i: usize, names: &[String]) -> String {
    match names.get(i).filter(|name| !name.is_empty()) {
        Some(name) => format!("model {} of the pipeline, `{name}`", i + 1),
        None => format!("model {} of the pipeline", i + 1),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fmt::Write as _;
    use std::fs;

    use prost::Message as _;

    use super::*;
    use crate::ErrorKind;
    use crate::classic::Classic;

    /// An empty model of each type, built from the field numbers of the message.
    fn empty_models() -> Vec<pb::Model> {
        let made = (1u32..4096).filter_map(|code| {
            let mut bytes = Vec::new();
            prost::encoding::encode_key(code, prost::encoding::WireType::LengthDelimited, &mut bytes);
            bytes.push(0);
            let model = pb::Model::decode(bytes.as_slice()).ok()?;
            model.r#type.is_some().then_some(model)
        });
        made.collect()
    }

    #[test]
    fn every_type_of_the_specification_has_a_row() {
        let models = empty_models();
        assert_eq!(models.len(), 37);
        let names: BTreeSet<&str> = models.iter().map(|m| ModelKind::of(m).unwrap().name()).collect();
        assert_eq!(names.len(), 37);
        assert_eq!(ModelKind::ALL.len(), 37);
    }

    /// A type that the table marks as computed here is not refused for its type.
    #[test]
    fn what_runs_is_read() {
        for model in empty_models() {
            let kind = ModelKind::of(&model).unwrap();
            let read = Classic::new(&model);
            let refused = read.is_err_and(|e| e.kind() == ErrorKind::Unsupported);
            assert_eq!(refused, kind.computed() != Computed::Numbers, "{}", kind.name());
        }
    }

    /// Compares `docs/models.md` with the table. `SNAPSHOTS=overwrite` rewrites it.
    #[test]
    fn the_page_says_what_the_table_says() {
        let mut page = String::from(
            "<!-- Made by `SNAPSHOTS=overwrite cargo test -p milwright --lib kinds` from the table of model types. Do not \
             edit. -->\n\n# Models\n\nWhat can be done with each of the 37 types of model that a Core ML file can have. *parts*: with a \
             pipeline, if it can be done with the models that it is made of.\n\n| type |",
        );
        Task::ALL.iter().for_each(|task| write!(page, " {} |", task.name()).unwrap());
        page += " computed by, or why not |\n|---|";
        Task::ALL.iter().for_each(|_| page += "---|");
        page += "---|\n";
        for kind in ModelKind::ALL {
            write!(page, "| `{}` |", kind.name()).unwrap();
            for task in Task::ALL {
                let word = match kind.can(task) {
                    Can::Yes => "yes",
                    Can::WithParts => "parts",
                    Can::No(_) => "–",
                };
                write!(page, " {word} |").unwrap();
            }
            writeln!(page, " {} |", kind.computed_by()).unwrap();
        }
        page += "\nWhat a type that runs does not allow, and why:\n\n";
        let mut reasons: Vec<(String, Vec<&str>)> = Vec::new();
        for kind in ModelKind::ALL.iter().filter(|k| !matches!(k.can(Task::Run), Can::No(_))) {
            for task in Task::ALL {
                let Can::No(reason) = kind.can(task) else { continue };
                let reason = format!("`{}`: {reason}", task.name());
                match reasons.iter_mut().find(|(r, _)| *r == reason) {
                    Some((_, kinds)) => kinds.push(kind.name()),
                    None => reasons.push((reason, vec![kind.name()])),
                }
            }
        }
        for (reason, kinds) in reasons {
            let kinds: Vec<String> = kinds.iter().map(|k| format!("`{k}`")).collect();
            writeln!(page, "* {reason} ({})", kinds.join(", ")).unwrap();
        }
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/models.md");
        #[expect(clippy::disallowed_methods, reason = "a test may be told to write the page")]
        if std::env::var_os("SNAPSHOTS").is_some_and(|v| v == "overwrite") {
            fs::write(path, &page).unwrap();
        }
        assert_eq!(fs::read_to_string(path).unwrap_or_default(), page, "docs/models.md is out of date");
    }
}
