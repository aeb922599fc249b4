//! Converts `tests/float16/*.mil` to fp16: the file of the same name that ends in `.out` holds the program that must
//! come out, after a line for each op that stays in fp32. `MILWRIGHT_BLESS=1 cargo test` rewrites those; the difference
//! is there to be reviewed.
#![expect(clippy::disallowed_methods, reason = "the environment says whether to rewrite expectations")]

use std::path::{Path, PathBuf};

use milwright_mil::passes::{self, Pass};
use milwright_mil::text::{parse, print};
use milwright_mil::verify;
use milwright_optimize::{Compression, InMemory, Quantization, optimize};

#[test]
fn float16() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/float16");
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "mil"))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no tests in {}", folder.display());
    for file in files {
        let actual = converted(&std::fs::read_to_string(&file).unwrap());
        let expected_file = file.with_extension("out");
        if std::env::var_os("MILWRIGHT_BLESS").is_some() {
            std::fs::write(&expected_file, &actual).unwrap();
        }
        let expected = std::fs::read_to_string(&expected_file).unwrap_or_default();
        assert!(
            actual == expected,
            "{} differs (MILWRIGHT_BLESS=1 accepts what came out):\n{actual}",
            file.display()
        );
    }
}

fn converted(text: &str) -> String {
    let mut program = verify(parse(text).unwrap()).unwrap().into_inner();
    let report =
        optimize(&mut program, &Compression::from(Quantization::Float16).into(), &mut InMemory, &mut |_| {})
            .unwrap();
    let clean: Vec<Pass> =
        ["remove_noops", "eliminate_dead"].iter().filter_map(|n| passes::by_name(n)).collect();
    let (program, _) = passes::run(verify(program).unwrap(), &clean, None).unwrap();
    let kept = report.kept.iter();
    let kept = kept.map(|k| format!("// {} in fp32: {} {}: {}\n", k.function, k.op, k.name, k.reason));
    kept.collect::<String>() + &print(&program.into_inner())
}
