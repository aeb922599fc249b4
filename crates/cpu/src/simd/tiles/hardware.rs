//! Tiles of the machine. Stable Rust has no intrinsics for them, so that this is assembly. Each block of it configures
//! the tiles and releases them again: no other code ever finds them in use.

use std::arch::asm;
use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};
use std::mem::offset_of;

use super::{Call, PLANE, Planes, SIDE};

/// Whether the machine has tiles of bfloat16 and the system lets this process use them.
pub fn available() -> bool {
    if !is_x86_feature_detected!("xsave") || !is_x86_feature_detected!("avx512f") || __cpuid(0).eax < 0x1d {
        return false;
    }
    let edx = __cpuid_count(7, 0).edx;
    let (bf16, tile, int8) = (edx >> 22 & 1, edx >> 24 & 1, edx >> 25 & 1);
    // SAFETY: the machine has XSAVE, and AVX-512 is usable, so that the system has enabled XGETBV.
    let enabled = unsafe { xcr0() };
    bf16 & tile & int8 == 1 && enabled >> 17 & 3 == 3 && permitted()
}

/// What the system saves of a thread's registers.
#[target_feature(enable = "xsave")]
unsafe fn xcr0() -> u64 {
    // SAFETY: as the caller vouches.
    unsafe { _xgetbv(0) }
}

/// Asks Linux for permission to use tiles, which the process then has forever.
fn permitted() -> bool {
    const ARCH_PRCTL: i64 = 158;
    const ARCH_REQ_XCOMP_PERM: u64 = 0x1023;
    const XFEATURE_XTILEDATA: u64 = 18;
    let result: i64;
    // SAFETY: the call only changes what the process is permitted, and the system call clobbers these registers alone.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") ARCH_PRCTL => result,
            in("rdi") ARCH_REQ_XCOMP_PERM,
            in("rsi") XFEATURE_XTILEDATA,
            out("rcx") _,
            out("r11") _,
            options(nostack)
        );
    }
    result == 0
}

/// The configuration of the tiles: palette 1, and eight tiles of 16 rows of 64 bytes.
#[repr(C, align(64))]
struct Configuration([u8; 64]);

static CONFIGURATION: Configuration = {
    let mut bytes = [0; 64];
    bytes[0] = 1;
    let mut tile = 0;
    while tile < 8 {
        bytes[16 + 2 * tile] = 64;
        bytes[48 + tile] = 16;
        tile += 1;
    }
    Configuration(bytes)
};

/// What the assembly reads, and writes in `a`, `b` and `blocks`.
#[repr(C)]
struct Task {
    a: *const u8,
    b: *const u8,
    /// Bytes from the operands of one block to those of the next.
    advance: [usize; 2],
    steps: *const usize,
    depth: usize,
    blocks: usize,
    sums: *mut f32,
    /// Not zero if the sums start at zero.
    first: usize,
    ahead: *const u8,
    ahead_lines: usize,
    line: usize,
    second: usize,
    plane: usize,
    configuration: *const Configuration,
}

/// Loads both tiles of plane `$plane` of A into tiles 4 and 5.
macro_rules! load_a {
    ($plane:literal) => {
        concat!(
            "tileloadd tmm4, [{a} + {row}*1 + ",
            $plane,
            "*{plane_bytes}]\n",
            "tileloadd tmm5, [{a} + {row}*1 + ",
            $plane,
            "*{plane_bytes} + {plane_bytes}/2]"
        )
    };
}

/// Loads both tiles of plane `$plane` of B into tiles 6 and 7.
macro_rules! load_b {
    ($plane:literal) => {
        concat!(
            "lea {x}, [{b} + {plane}*",
            $plane,
            "]\n",
            "tileloadd tmm6, [{x} + {line}*1]\n",
            "add {x}, {second}\n",
            "tileloadd tmm7, [{x} + {line}*1]"
        )
    };
    () => {
        "tileloadd tmm6, [{b} + {line}*1]
         lea {x}, [{b} + {second}]
         tileloadd tmm7, [{x} + {line}*1]"
    };
}

/// Adds the products of the loaded planes to the sums.
macro_rules! products {
    () => {
        "tdpbf16ps tmm0, tmm4, tmm6
         tdpbf16ps tmm1, tmm4, tmm7
         tdpbf16ps tmm2, tmm5, tmm6
         tdpbf16ps tmm3, tmm5, tmm7"
    };
}

/// A function that computes blocks of sums; the instructions are those of one step of `DEPTH`.
macro_rules! kernel {
    ($name:ident, $planes:expr, $($step:expr),*) => {
        /// # Safety
        /// The machine must have tiles, and the fields of `task` must describe memory as [`multiply`] says.
        unsafe fn $name(task: &mut Task) {
            // SAFETY: the caller vouches for the machine and the memory. The tiles are released at the end, and are
            // declared as clobbered; the stack is not touched.
            unsafe {
                asm!(
                    "mov {x}, [{task} + {at_configuration}]",
                    "ldtilecfg [{x}]",
                    "mov {sums}, [{task} + {at_sums}]",
                    "mov {line}, [{task} + {at_line}]",
                    "mov {second}, [{task} + {at_second}]",
                    "mov {plane}, [{task} + {at_plane}]",
                    "mov {ahead}, [{task} + {at_ahead}]",
                    "mov {row}, 64",
                    "2:",
                    "cmp qword ptr [{task} + {at_first}], 0",
                    "je 3f",
                    "tilezero tmm0",
                    "tilezero tmm1",
                    "tilezero tmm2",
                    "tilezero tmm3",
                    "jmp 4f",
                    "3:",
                    "tileloadd tmm0, [{sums} + {row}*2]",
                    "tileloadd tmm1, [{sums} + {row}*2 + 64]",
                    "tileloadd tmm2, [{sums} + {row}*2 + 16*{row_bytes}]",
                    "tileloadd tmm3, [{sums} + {row}*2 + 16*{row_bytes} + 64]",
                    "4:",
                    "mov {a}, [{task} + {at_a}]",
                    "mov {steps}, [{task} + {at_steps}]",
                    "mov {depth}, [{task} + {at_depth}]",
                    "5:",
                    "mov {b}, [{steps}]",
                    "add {b}, [{task} + {at_b}]",
                    $($step,)*
                    "mov {x}, [{task} + {at_ahead_lines}]",
                    "test {x}, {x}",
                    "jz 7f",
                    "6:",
                    "prefetcht1 [{ahead}]",
                    "add {ahead}, 64",
                    "dec {x}",
                    "jnz 6b",
                    "7:",
                    "add {a}, {planes}*{plane_bytes}",
                    "add {steps}, 8",
                    "dec {depth}",
                    "jnz 5b",
                    "tilestored [{sums} + {row}*2], tmm0",
                    "tilestored [{sums} + {row}*2 + 64], tmm1",
                    "tilestored [{sums} + {row}*2 + 16*{row_bytes}], tmm2",
                    "tilestored [{sums} + {row}*2 + 16*{row_bytes} + 64], tmm3",
                    "add {sums}, 32*{row_bytes}",
                    "mov {x}, [{task} + {at_advance}]",
                    "add [{task} + {at_a}], {x}",
                    "mov {x}, [{task} + {at_advance} + 8]",
                    "add [{task} + {at_b}], {x}",
                    "dec qword ptr [{task} + {at_blocks}]",
                    "jnz 2b",
                    "tilerelease",
                    task = in(reg) task,
                    a = out(reg) _,
                    b = out(reg) _,
                    x = out(reg) _,
                    row = out(reg) _,
                    line = out(reg) _,
                    second = out(reg) _,
                    plane = out(reg) _,
                    steps = out(reg) _,
                    depth = out(reg) _,
                    ahead = out(reg) _,
                    sums = out(reg) _,
                    plane_bytes = const PLANE,
                    planes = const $planes,
                    row_bytes = const SIDE * 4,
                    at_configuration = const offset_of!(Task, configuration),
                    at_blocks = const offset_of!(Task, blocks),
                    at_sums = const offset_of!(Task, sums),
                    at_depth = const offset_of!(Task, depth),
                    at_steps = const offset_of!(Task, steps),
                    at_advance = const offset_of!(Task, advance),
                    at_first = const offset_of!(Task, first),
                    at_ahead = const offset_of!(Task, ahead),
                    at_ahead_lines = const offset_of!(Task, ahead_lines),
                    at_line = const offset_of!(Task, line),
                    at_second = const offset_of!(Task, second),
                    at_plane = const offset_of!(Task, plane),
                    at_a = const offset_of!(Task, a),
                    at_b = const offset_of!(Task, b),
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nostack)
                );
            }
        }
    };
}

// The steps add the products in the order of `Planes::products`, and load each plane as rarely as that allows.
kernel!(two, 2, load_a!(0), load_b!(1), products!(), load_b!(), products!(), load_a!(1), products!());
kernel!(
    three,
    3,
    load_a!(0),
    load_b!(2),
    products!(),
    load_b!(1),
    products!(),
    load_a!(1),
    products!(),
    load_b!(),
    products!(),
    load_a!(0),
    products!(),
    load_a!(2),
    products!()
);

/// Adds to blocks of sums: see [`Tiles::multiply`](super::Tiles).
///
/// # Safety
/// The machine must have tiles, and the slices must be as long as `Tiles::multiply` checks.
pub unsafe fn multiply(call: &Call<'_>, sums: &mut [[f32; SIDE * SIDE]]) {
    if sums.is_empty() {
        return;
    }
    if call.steps.is_empty() {
        if call.first {
            sums.as_flattened_mut().fill(0.0);
        }
        return;
    }
    let mut task = Task {
        a: call.a.as_ptr(),
        b: call.b.as_ptr(),
        advance: call.advance,
        steps: call.steps.as_ptr(),
        depth: call.steps.len(),
        blocks: sums.len(),
        sums: sums.as_mut_ptr().cast(),
        first: call.first.into(),
        ahead: call.ahead.0.as_ptr(),
        ahead_lines: call.ahead.1,
        line: call.view.line,
        second: call.view.second,
        plane: call.view.plane,
        configuration: &raw const CONFIGURATION,
    };
    // SAFETY: as the caller vouches. What is asked for ahead need not be valid.
    unsafe {
        match call.planes {
            Planes::Two => two(&mut task),
            Planes::Three => three(&mut task),
        }
    }
}
