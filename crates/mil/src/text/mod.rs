//! Programs as text, in the syntax of the `model.mil` that Core ML's compiler writes.
//!
//! ```text
//! program(1.3)
//! [buildInfo = dict<string, string>({{"coremlc-version", "3600.25.1"}})]
//! {
//!     func main<ios16>(tensor<fp16, [1, 4]> x) {
//!         fp16 two = const()[name = string("two"), val = fp16(0x1p+1)];
//!         tensor<fp16, [4]> w = const()[val = tensor<fp16, [4]>(BLOBFILE(path = string("w.bin"), offset = uint64(64)))];
//!         tensor<fp16, [2, 4]> y = concat(axis = int32(0), interleave = bool(false), values = (x, x));
//!     } -> (y);
//! }
//! ```
//!
//! * A type is an element type (a scalar), `tensor<E, [1, ?]>`, `list<T, n>`, `tuple<T, …>`, `dict<K, V>` or
//!   `state<T>`. A constant is its type, then its literal in parentheses. In literals a tensor is nested brackets
//!   (or flat ones), a list `[…]`, a tuple `(…)`, a dictionary `{{key, value}, …}`.
//! * `program(1.0)` writes scalars as tensors of rank 0, `tensor<fp16, []>(0x1p+1)`; the parser takes both.
//! * Floats are hexadecimal, so that they are exact; the parser takes decimal ones too, `inf`, `nan`, and
//!   `nan(0x7fc00001)` for other bits.
//! * An op with several outputs lists them before the `=`; one with none starts with its name.
//! * Attributes follow in brackets: after the arguments of an op, after the inputs of a function (and, in a second
//!   pair, those of its body block), and after `program(…)`.
//! * The blocks of control flow follow the attributes, separated by commas (the parser also accepts none). Each is
//!   written like that of a function: `(tensor<int32, [1]> i) { … } -> (j)`.
//! * The parameters of `constexpr_*` ops are written as attributes before ios18, where they are all immediate.
//! * Names that are not identifiers stand in back quotes. `//` starts a comment.

mod error;
mod lex;
mod number;
mod parse;
mod print;

pub use error::ParseError;
pub use parse::{BlobResolver, parse, parse_value, parse_with};
pub use print::{BlobRef, Printer, TextVersion, print, print_value};

/// The deepest nesting of types, literals and blocks in a text.
pub const MAX_DEPTH: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(text: &str) -> String {
        let printed = print(&parse(text).unwrap());
        assert_eq!(print(&parse(&printed).unwrap()), printed);
        printed
    }

    #[test]
    fn both_versions_are_one_program() {
        let old = "program(1.0)
            [buildInfo = dict<tensor<string, []>, tensor<string, []>>({{\"coremlc-version\", \"1.2\"}})]
            {
                func main<ios16>(tensor<fp16, [1, 4]> input) {
                    tensor<fp16, []> c = const()[name = tensor<string, []>(\"c\"), val = tensor<fp16, []>(0x1p+1)];
                } -> (c);
            }";
        let new = "program(1.3)
[buildInfo = dict<string, string>({{\"coremlc-version\", \"1.2\"}})]
{
    func main<ios16>(tensor<fp16, [1, 4]> input) {
        fp16 c = const()[name = string(\"c\"), val = fp16(0x1p+1)];
    } -> (c);
}
";
        assert_eq!(round_trip(old), new);
        let printed = Printer::new().version(TextVersion::V1_0).print(&parse(new).unwrap());
        assert!(printed.contains("tensor<string, []>(\"c\")"), "{printed}");
        assert_eq!(round_trip(&printed), new);
    }

    #[test]
    fn flexible_shapes_round_trip() {
        let text = "program(1.3)
{
    func main<ios17>(tensor<fp32, [?, 4]> input) [FlexibleShapeInformation = tuple<tuple<string, dict<string, \
            tensor<int32, [?]>>>, tuple<string, dict<string, list<tensor<int32, [2]>, ?>>>>(((\"DefaultShapes\", \
            {{\"input\", [1, 4]}}), (\"RangeDims\", {{\"input\", [[1, 4], [4, 4]]}})))] {
    } -> (input);
}
";
        assert_eq!(round_trip(text), text);
    }

    #[test]
    fn values_round_trip() {
        for text in [
            "bool(true)",
            "string(\"a \\\"b\\\" \\\\ \\n é\")",
            "tensor<fp32, [2, 2]>([[0x1p+0, -0x1.8p-3], [inf, nan]])",
            "fp32(nan(0x7fc00001))",
            "fp16(-0x0p+0)",
            "tensor<fp16, [5]>([0x1p-24, 0x1.5p-17, 0x1.ff8p-15, 0x1p-14, -0x1.5p-17])",
            "fp64(0x1.5555555555555p-2)",
            "tensor<int4, [3]>([-8, 0, 7])",
            "tensor<uint3, [5]>([7, 0, 1, 2, 3])",
            "int64(-9223372036854775808)",
            "uint64(18446744073709551615)",
            "tensor<string, [2]>([\"a\", \"b\"])",
            "tensor<int32, [0]>([])",
            "tensor<int32, [2, 0]>([[], []])",
            "list<string, 2>([\"a\", \"b\"])",
            "list<tensor<int32, [?]>, 2>([[1], [2, 3]])",
            "tuple<>(())",
            "tuple<string, tensor<int32, [1]>>((\"a\", [1]))",
            "dict<int64, fp64>({{1, 0x1p-1}, {2, 0x1p+0}})",
        ] {
            let value = parse_value(text).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(print_value(&value), text);
            assert_eq!(parse_value(text).unwrap(), value);
        }
        for (text, same) in [
            ("fp32(0.1)", "fp32(0x1.99999ap-4)"),
            ("fp16(-1e-8)", "fp16(-0x0p+0)"),
            (
                "tensor<fp32, [2, 2]>([1, 2, 3, 4])",
                "tensor<fp32, [2, 2]>([[0x1p+0, 0x1p+1], [0x1.8p+1, 0x1p+2]])",
            ),
            ("tensor<int32, [?]>([1, 2])", "tensor<int32, [2]>([1, 2])"),
            ("tensor<fp32, []>(3) // three", "fp32(0x1.8p+1)"),
        ] {
            assert_eq!(print_value(&parse_value(text).unwrap()), same);
        }
    }

    #[test]
    fn weights_go_through_the_callbacks() {
        let text = "tensor<fp32, [3]>(BLOBFILE(path = string(\"w.bin\"), offset = uint64(64)))";
        assert_eq!(
            parse_value(text).unwrap_err().to_string(),
            "1:19: the constant lies in the file `w.bin`, and there is no file to read here"
        );
        let program = format!(
            "program(1.3)\n{{\n    func main<ios16>() {{\n        tensor<fp32, [3]> w = const()[val = {text}];\n    }} -> (w);\n}}\n"
        );
        let mut resolve = |path: &str, offset: u64, ty: &crate::TensorType| {
            assert_eq!((path, offset, ty.elements()), ("w.bin", 64, Some(3)));
            crate::Tensor::from_vec(&[3], vec![1f32, 2.0, 3.0]).map_err(|e| e.to_string())
        };
        let parsed = parse_with(&program, &mut resolve).unwrap();
        assert!(print(&parsed).contains("[0x1p+0, 0x1p+1, 0x1.8p+1]"));
        let mut blobs =
            |t: &crate::Tensor| (t.elements() == 3).then(|| BlobRef { path: "w.bin".into(), offset: 64 });
        assert_eq!(Printer::new().weights(&mut blobs).print(&parsed), program);
    }

    #[test]
    fn errors_say_where_and_what() {
        let error = |text: &str| parse(text).unwrap_err().to_string();
        assert_eq!(error(""), "1:1: expected `program`, found the end of the text");
        assert_eq!(error("program(2.0) {}"), "1:9: expected a version of the form 1.x, found `2.0`");
        assert_eq!(
            error("program(1.3) {\n  func f<ios99>() {} -> ();\n}"),
            "2:10: expected an opset (ios13, ios14, ios15, ios16, ios17, ios18, ios26), found `ios99`"
        );
        assert_eq!(
            error("program(1.3) { func f<ios15>() { fp32 y = nothing(); } -> (y); }"),
            "1:43: unknown op `nothing`"
        );
        assert_eq!(
            error("program(1.3) { func f<ios15>() { fp32 y = concat(values = x); } -> (y); }"),
            "1:59: `x` is not defined here"
        );
        let value = |text: &str| parse_value(text).unwrap_err().to_string();
        assert_eq!(value("int8(300)"), "1:6: 300 does not fit int8");
        assert_eq!(value("fp16(1e9)"), "1:6: 1e9 does not fit fp16");
        assert_eq!(value("tensor<int32, [3]>([1, 2])"), "1:20: the literal has shape [2], the type says [3]");
        assert_eq!(value("tensor<int32, [2, 2]>([[1, 2], [3]])"), "1:32: rows of different lengths: 2 and 1");
        assert_eq!(value("tensor<int32, [2]>([1, 2)"), "1:25: expected `,` or `]`, found `)`");
        assert_eq!(value("string(\"abc)"), "1:8: the string does not end");
    }

    #[test]
    fn depth_is_limited() {
        let deep = |open: &str, close: &str| open.repeat(100_000) + "x" + &close.repeat(100_000);
        assert!(parse_value(&deep("list<", ">")).is_err());
        assert!(parse_value(&deep("tuple<", "")).is_err());
        assert!(parse_value(&format!("tensor<fp32, [1]>({})", deep("[", "]"))).is_err());
    }
}
