//! This engine behind the contract of all engines.

use std::io::{self, Write};
use std::sync::Arc;

use bytes::Bytes;
use milwright_mil::engine::{
    self, CompileError, CompileOptions, Engine, ExecuteOptions, PlanError, RunError, RunOptions, State,
    StepCost,
};
use milwright_mil::{Checked, Tensor};

use crate::{Executable, Plan, Pool, compile_with, features};

/// Milwright's own engine: it runs on the CPU of any machine.
///
/// ```
/// use milwright_mil::engine::{CompileOptions, Engine, ExecuteOptions, RunOptions};
/// use milwright_mil::{Tensor, text, verify};
///
/// let program = verify(text::parse(
///     "program(1.3) { func main<ios15>(tensor<fp32, [2]> x) {
///          tensor<fp32, [2]> y = relu(x = x)[name = string(\"y\")];
///      } -> (y); }",
/// ).unwrap()).unwrap();
/// let engine = milwright_cpu::CpuEngine;
/// let plan = engine.compile(&program, "main", &[], CompileOptions::default()).unwrap();
/// let run = plan.load(ExecuteOptions::default()).unwrap();
/// let x = Tensor::from_vec(&[2], vec![-1.0f32, 2.0]).unwrap();
/// let outputs = run.run(&[("x", x)], RunOptions::default()).unwrap();
/// assert_eq!(outputs[0].1.to_f64(), [0.0, 2.0]);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct CpuEngine;

impl Engine for CpuEngine {
    fn name(&self) -> &'static str {
        "cpu"
    }

    fn hardware(&self) -> Result<String, String> {
        let features = features::names().join(" ");
        Ok(if features.is_empty() {
            "portable kernels: no CPU features that speed it up were found".into()
        } else {
            format!("kernels for {features}")
        })
    }

    fn fingerprint(&self) -> String {
        Plan::fingerprint()
    }

    fn compile(
        &self,
        program: &Checked,
        function: &str,
        shapes: &[(&str, &[usize])],
        options: CompileOptions<'_>,
    ) -> Result<Box<dyn engine::Plan>, CompileError> {
        Ok(Box::new(compile_with(program, function, shapes, options)?))
    }

    fn read_plan(&self, bytes: Bytes) -> Result<Box<dyn engine::Plan>, PlanError> {
        Ok(Box::new(Plan::from_bytes(bytes)?))
    }
}

impl engine::Plan for Plan {
    fn write(&self, writer: &mut dyn Write) -> io::Result<()> {
        self.to_writer(writer)
    }

    fn arena_bytes(&self) -> u64 {
        Plan::arena_bytes(self)
    }

    fn weight_bytes(&self) -> u64 {
        Plan::weight_bytes(self)
    }

    fn load(&self, options: ExecuteOptions) -> Result<Arc<dyn engine::Executable>, PlanError> {
        let pool = Pool::new(options.threads).map_err(|e| PlanError(format!("the threads: {e}")))?;
        Ok(Arc::new(Executable::within(options.memory, self, pool)?))
    }
}

impl engine::Executable for Executable {
    fn run(
        &self,
        inputs: &[(&str, Tensor)],
        options: RunOptions<'_>,
    ) -> Result<Vec<(String, Tensor)>, RunError> {
        self.run_with(inputs, options)
    }

    fn new_state(&self) -> State {
        Executable::new_state(self)
    }

    fn steps(&self) -> Vec<(String, String)> {
        self.step_names()
    }

    fn costs(&self) -> Vec<StepCost> {
        self.step_costs()
    }
}
