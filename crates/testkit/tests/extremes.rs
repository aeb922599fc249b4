//! Every case with its parameters at their extremes: NaN, infinities, the limits of integers; and with inputs of no size and of
//! all too large ones. A result or an error is a fine answer; a panic, or memory beyond the limit, is not.
//!
//! `MILWRIGHT_CASE=lstm` tries those whose path contains the word.
#![expect(clippy::disallowed_methods, reason = "the environment chooses cases")]
#![expect(clippy::print_stderr, clippy::exit, reason = "the watchdog stops a program that hangs")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;
use std::{env, fs, process, thread};

use milwright_cpu::{CompileOptions, Executable, Pool, compile_with};
use milwright_mil::{Arg, DType, Dim, Input, OpId, Program, Tensor, Type, Value, text, verify};
use milwright_testkit::cases::{self, Case};

/// What a run may take for intermediate results.
const MEMORY: u64 = 16 << 20;
/// What one allocation may take then: kernels copy what they read and write to wider elements, a few times.
const MAX_ALLOCATION: usize = 512 << 20;
/// A single small op that needs longer hangs.
const PATIENCE: Duration = Duration::from_secs(120);

#[test]
fn no_parameter_panics() {
    let chosen = env::var("MILWRIGHT_CASE").unwrap_or_default();
    let alive = watchdog();
    let (mut tried, mut failures) = (0, Vec::new());
    for (name, path) in cases::files() {
        if !name.contains(&chosen) {
            continue;
        }
        let case = Case::parse(&fs::read_to_string(path).unwrap()).unwrap();
        for program in variants(&case.program) {
            tried += 1;
            alive.send(format!("{name}\n{}", text::print(&program))).unwrap();
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(&case, &program))) {
                let what = panic.downcast_ref::<String>().cloned();
                let what = what.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
                failures.push(format!("{name}: {}\n{}", what.unwrap_or_default(), text::print(&program)));
            }
        }
    }
    assert!(tried > 0 && (tried > 10_000 || !chosen.is_empty()), "only {tried} programs");
    assert!(failures.is_empty(), "{} of {tried} panicked:\n{}", failures.len(), failures.join("\n"));
}

/// Compiles and runs; errors are fine.
fn run(case: &Case, program: &Program) {
    let Ok(checked) = verify(program.clone()) else { return };
    let options = CompileOptions { memory: MEMORY, cancel: None };
    let Ok(plan) = compile_with(&checked, "main", &[], options) else { return };
    let executable =
        Executable::within(MEMORY, &plan, Pool::inline()).expect("what was compiled can be loaded");
    let inputs: Vec<(&str, Tensor)> =
        case.inputs.iter().map(|l| (l.name.as_str(), l.tensor.clone())).collect();
    drop(executable.run(&inputs));
}

/// The program with one parameter changed, or one dimension of an input, in every way.
fn variants(program: &Program) -> Vec<Program> {
    let mut variants = Vec::new();
    let f = &program.functions["main"];
    for &input in &f.inputs {
        let Type::Tensor(ty) = &f[input].ty else { continue };
        for d in 0..ty.rank() {
            for size in [0, 1 << 31, 1 << 32, 1 << 63, usize::MAX - 127, usize::MAX] {
                let mut program = program.clone();
                if let Type::Tensor(ty) = &mut program.functions["main"][input].ty {
                    ty.shape[d] = Dim::Fixed(size);
                }
                variants.push(program);
            }
        }
    }
    for op in f.walk() {
        for (i, input) in f[op].inputs.iter().enumerate() {
            for (a, arg) in input.args.iter().enumerate() {
                if let Arg::Const(Value::Tensor(t)) = arg {
                    variants.extend(extremes(t).into_iter().map(|t| replaced(program, op, i, a, t)));
                }
            }
        }
        // Parameters that the case leaves out, as single numbers.
        let params = f[op].kind.version(f.opset).into_iter().flat_map(|v| v.params());
        for param in params.filter(|p| f[op].inputs.iter().all(|i| i.name != p.name)) {
            let zeros = [
                Tensor::scalar(0f32),
                Tensor::scalar(0f32).converted(DType::Fp16).unwrap(),
                Tensor::scalar(0i32),
            ];
            for tensor in zeros.iter().flat_map(extremes) {
                let mut program = program.clone();
                let input = Input { name: param.name.to_owned(), args: vec![Arg::Const(tensor.into())] };
                program.functions["main"][op].inputs.push(input);
                // Most have another type, or may not be bound.
                if verify(program.clone()).is_ok() {
                    variants.push(program);
                }
            }
        }
    }
    variants
}

fn replaced(program: &Program, op: OpId, input: usize, arg: usize, tensor: Tensor) -> Program {
    let mut program = program.clone();
    program.functions["main"][op].inputs[input].args[arg] = Arg::Const(tensor.into());
    program
}

/// Tensors with the last element, or with all, at an extreme of the type. Large tensors are data: one of each is enough.
fn extremes(t: &Tensor) -> Vec<Tensor> {
    let floats =
        [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN, f32::from_bits(1), -0.0, 0.0, -1.0];
    let ints = [i64::MAX, i64::MIN, i32::MAX.into(), i32::MIN.into(), 1 << 16, 255, 0, -1, -2];
    let elements: Vec<Vec<u8>> = match t.dtype() {
        DType::Fp32 => floats.iter().map(|x| x.to_le_bytes().to_vec()).collect(),
        DType::Fp16 => {
            let bits = [0x7e00u16, 0x7c00, 0xfc00, 0x7bff, 0xfbff, 1, 0x8000, 0, 0xbc00];
            bits.iter().map(|x| x.to_le_bytes().to_vec()).collect()
        }
        DType::Bool => vec![vec![0], vec![1]],
        d if d.is_int() && d.bits() >= 8 => {
            let bytes = d.bits() / 8;
            let clamp = |x: i64| match bytes {
                1 => x.clamp(-128, 255),
                2 => x.clamp(-32768, 65535),
                4 => x.clamp(i32::MIN.into(), i32::MAX.into()),
                _ => x,
            };
            ints.iter().map(|&x| clamp(x).to_le_bytes()[..bytes].to_vec()).collect()
        }
        _ => return Vec::new(),
    };
    let n = t.elements();
    let with = |element: &Vec<u8>, from: usize| {
        let mut bytes = t.bytes().to_vec();
        bytes[from * element.len()..]
            .chunks_exact_mut(element.len())
            .for_each(|b| b.copy_from_slice(element));
        Tensor::from_bytes(t.dtype(), t.shape(), bytes.into()).unwrap()
    };
    match n {
        0 => Vec::new(),
        1 => elements.iter().map(|e| with(e, 0)).collect(),
        2..=8 => elements.iter().flat_map(|e| [with(e, 0), with(e, n - 1)]).collect(),
        _ => elements.iter().take(3).map(|e| with(e, n - 1)).collect(),
    }
}

/// Ends the process, and says on what, if nothing was sent for too long.
fn watchdog() -> mpsc::Sender<String> {
    let (alive, watch) = mpsc::channel::<String>();
    thread::spawn(move || {
        let mut last = String::new();
        loop {
            match watch.recv_timeout(PATIENCE) {
                Ok(program) => last = program,
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {
                    eprintln!("this hangs: {last}");
                    process::exit(1);
                }
            }
        }
    });
    alive
}

/// Refuses what no small op can ask for within the limit. The allocation fails as if memory had run out, which ends the program.
struct Frugal;

#[global_allocator]
static ALLOCATOR: Frugal = Frugal;

// SAFETY: either hands on to the system's allocator, with the arguments of the call, or returns null, which says that
// the allocation failed and leaves the old block, if any, as it is.
unsafe impl GlobalAlloc for Frugal {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() > MAX_ALLOCATION {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller's promises about `layout` are the ones that the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if layout.size() > MAX_ALLOCATION {
            return std::ptr::null_mut();
        }
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if size > MAX_ALLOCATION {
            return std::ptr::null_mut();
        }
        // SAFETY: `block` came from `alloc` above, so from the system's allocator, with this layout.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: `block` came from `alloc` above, so from the system's allocator, with this layout.
        unsafe { System.dealloc(block, layout) }
    }
}
