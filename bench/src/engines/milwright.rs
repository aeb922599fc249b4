use std::path::Path;
use std::sync::Arc;

use milwright::{Backend, Cpu, InferenceRequest, LoadOptions, Model, Prediction, Session};

use super::{Engine, Named};
use crate::Result;

pub struct Milwright {
    session: Box<dyn Session>,
    request: InferenceRequest,
    last: Option<Prediction>,
}

impl Milwright {
    pub fn load(model: &Path, inputs: Named, threads: usize) -> Result<Milwright> {
        let model = Arc::new(Model::open(model)?);
        let session = Cpu.session(&model, &LoadOptions { threads, ..LoadOptions::default() })?;
        let request = inputs.into_iter().fold(InferenceRequest::new(), |r, (name, t)| r.input(name, t));
        Ok(Milwright { session, request, last: None })
    }
}

impl Engine for Milwright {
    fn run(&mut self) -> Result<()> {
        self.last = Some(self.session.predict(&self.request)?);
        Ok(())
    }

    fn outputs(&mut self) -> Result<Named> {
        Ok(self.last.as_ref().ok_or("nothing was run")?.outputs().to_vec())
    }
}
