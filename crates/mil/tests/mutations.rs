//! Thousands of broken texts go through parser, verifier, passes and printer: errors are fine, panics are not.
//! `MILWRIGHT_MUTATIONS` sets how many.
#![expect(clippy::disallowed_methods, reason = "the environment says how many texts to try")]

use std::path::Path;

use milwright_mil::text::{parse, print};
use milwright_mil::{passes, verify};

/// A small generator of pseudo-random numbers; the same sequence on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % n.max(1)
    }
}

#[test]
fn broken_texts_make_no_panic() {
    let texts = texts();
    let pieces: Vec<&str> = texts.iter().flat_map(|t| t.split_inclusive([' ', '(', ',', '\n'])).collect();
    let mut random = Random(1);
    let (mut parsed, mut checked) = (0, 0);
    let rounds = std::env::var("MILWRIGHT_MUTATIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(4000);
    for round in 0..rounds {
        let mut text = texts[round % texts.len()].clone();
        for _ in 0..=random.below(4) {
            mutate(&mut text, &pieces, &mut random);
        }
        let Ok(program) = parse(&text) else { continue };
        parsed += 1;
        assert!(print(&program).len() < 100 * text.len() + 1000, "a small text prints as a large one");
        let Ok(program) = verify(program) else { continue };
        checked += 1;
        passes::run(program, passes::ALL, None).unwrap();
    }
    // Mutations that break everything would test the lexer only.
    assert!(parsed * 50 >= rounds && checked * 200 >= rounds, "{parsed} parsed, {checked} checked");
}

fn mutate(text: &mut String, pieces: &[&str], random: &mut Random) {
    let boundary = |text: &str, mut at: usize| {
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    let at = boundary(text, random.below(text.len() + 1));
    let to = boundary(text, (at + random.below(12)).min(text.len()));
    let numbers =
        ["0", "-1", "1", "2", "3", "64", "4294967296", "18446744073709551615", "99999999999999999999", "?"];
    match random.below(5) {
        // Delete, insert a piece of some text, double, swap a digit, cut off.
        0 => text.replace_range(at..to, ""),
        1 => text.insert_str(at, pieces[random.below(pieces.len())]),
        2 => {
            let copy = text[at..to].to_owned();
            text.insert_str(at, &copy);
        }
        3 => {
            if let Some(digit) = text[at..].find(|c: char| c.is_ascii_digit()) {
                text.replace_range(at + digit..at + digit + 1, numbers[random.below(numbers.len())]);
            }
        }
        _ if random.below(8) == 0 => text.truncate(at),
        _ => text.replace_range(at..to, pieces[random.below(pieces.len())].trim()),
    }
}

/// The texts of the other tests.
fn texts() -> Vec<String> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let mut files: Vec<_> = ["text", "verify", "passes"]
        .iter()
        .flat_map(|folder| std::fs::read_dir(tests.join(folder)).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "mil"))
        .collect();
    files.sort();
    files.iter().map(|file| std::fs::read_to_string(file).unwrap()).collect()
}
