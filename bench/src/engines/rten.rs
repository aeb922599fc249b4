use std::path::Path;
use std::sync::Arc;

use milwright::{DType, Tensor};
use rten::{Model, ModelOptions, NodeId, RunOptions, ThreadPool, Value};
use rten_tensor::prelude::*;

use super::{Engine, Named, input};
use crate::Result;

pub struct Rten {
    model: Model,
    inputs: Vec<(NodeId, Value)>,
    options: RunOptions,
    last: Vec<Value>,
}

impl Rten {
    pub fn load(model: &Path, inputs: Named, threads: usize) -> Result<Rten> {
        let model = ModelOptions::with_all_ops().prepack_weights(true).load_file(model)?;
        let value = |&id: &NodeId| Ok((id, to_rten(input(&inputs, name(&model, id))?)?));
        let inputs = model.input_ids().iter().map(value).collect::<Result<_>>()?;
        let pool = Arc::new(ThreadPool::with_num_threads(threads));
        Ok(Rten {
            model,
            inputs,
            options: RunOptions::default().with_thread_pool(Some(pool)),
            last: Vec::new(),
        })
    }
}

impl Engine for Rten {
    fn run(&mut self) -> Result<()> {
        let inputs = self.inputs.iter().map(|(id, value)| (*id, value.into())).collect();
        self.last = self.model.run(inputs, self.model.output_ids(), Some(self.options.clone()))?;
        Ok(())
    }

    fn outputs(&mut self) -> Result<Named> {
        let tensor = |(&id, value): (&NodeId, &Value)| {
            let view = value.as_tensor_view::<f32>().ok_or("an output that is not float32")?;
            Ok((name(&self.model, id).to_owned(), Tensor::from_vec(view.shape(), view.to_vec())?))
        };
        self.model.output_ids().iter().zip(&self.last).map(tensor).collect()
    }
}

fn name(model: &Model, id: NodeId) -> &str {
    model.node_info(id).and_then(|n| n.name()).unwrap_or_default()
}

fn to_rten(tensor: &Tensor) -> Result<Value> {
    Ok(match tensor.dtype() {
        DType::Int32 => Value::from_shape(tensor.shape(), tensor.to_vec::<i32>()?)?,
        _ => Value::from_shape(tensor.shape(), tensor.to_vec::<f32>()?)?,
    })
}
