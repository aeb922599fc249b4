use std::path::Path;

use milwright::{DType, Tensor as Given};
use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::{Runnable, State, multithread};

use super::{Engine, Named, input};
use crate::Result;

pub struct Tract {
    state: Box<dyn State>,
    inputs: TVec<TValue>,
    names: Vec<String>,
    last: TVec<TValue>,
}

impl Tract {
    pub fn load(model: &Path, inputs: Named, threads: usize) -> Result<Tract> {
        if threads > 1 {
            multithread::set_default_executor(multithread::Executor::multithread(threads));
        }
        let mut model = tract_onnx::onnx().model_for_path(model)?;
        let mut given = TVec::new();
        for place in 0..model.inputs.len() {
            let name = model.node(model.inputs[place].node).name.clone();
            let tensor = to_tract(input(&inputs, &name)?)?;
            model.set_input_fact(place, InferenceFact::dt_shape(tensor.datum_type(), tensor.shape()))?;
            given.push(tensor.into_tvalue());
        }
        let label = |place: usize| {
            let outlet = model.outputs[place];
            model.outlet_label(outlet).unwrap_or(&model.node(outlet.node).name).to_owned()
        };
        let names = (0..model.outputs.len()).map(label).collect();
        let plan = model.into_optimized()?.into_runnable()?;
        let state = Runnable::spawn(&plan)?;
        Ok(Tract { state, inputs: given, names, last: TVec::new() })
    }
}

impl Engine for Tract {
    fn run(&mut self) -> Result<()> {
        self.last = self.state.run(self.inputs.clone())?;
        Ok(())
    }

    fn outputs(&mut self) -> Result<Named> {
        let tensor = |(name, value): (&String, &TValue)| {
            let elements = value.to_plain_array_view::<f32>()?.iter().copied().collect();
            Ok((name.clone(), Given::from_vec(value.shape(), elements)?))
        };
        self.names.iter().zip(&self.last).map(tensor).collect()
    }
}

fn to_tract(tensor: &Given) -> Result<Tensor> {
    Ok(match tensor.dtype() {
        DType::Int32 => Tensor::from_shape(tensor.shape(), &tensor.to_vec::<i32>()?)?,
        _ => Tensor::from_shape(tensor.shape(), &tensor.to_vec::<f32>()?)?,
    })
}
