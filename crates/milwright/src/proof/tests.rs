//! Tests the proof like a lock: damaged results of every type must be told from good ones at the tolerance that should
//! do so, and good ones must pass at any tolerance.

use std::sync::LazyLock;

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

use super::*;
use crate::{DType, largest};

const DIGITS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/digits.mlpackage");

type Random = Xoshiro256PlusPlus;

/// The results of several samples.
type Results = Vec<Prediction>;

fn below(random: &mut Random, n: usize) -> usize {
    (random.next_u64() >> 33) as usize % n
}

/// A number from -1 to 1.
fn unit(random: &mut Random) -> f64 {
    (random.next_u64() >> 11) as f64 / (1u64 << 52) as f64 - 1.0
}

fn numbers(dtype: DType, shape: &[usize], values: &[f64]) -> Tensor {
    let tensor = match dtype {
        DType::Fp16 => Tensor::from_vec(shape, values.iter().map(|&x| half::f16::from_f64(x)).collect()),
        DType::Fp32 => Tensor::from_vec(shape, values.iter().map(|&x| x as f32).collect()),
        DType::Fp64 => Tensor::from_vec(shape, values.to_vec()),
        DType::Int32 => Tensor::from_vec(shape, values.iter().map(|&x| x as i32).collect()),
        DType::Int64 => Tensor::from_vec(shape, values.iter().map(|&x| x as i64).collect()),
        DType::Bool => Tensor::from_bools(shape, &values.iter().map(|&x| x != 0.0).collect::<Vec<_>>()),
        other => panic!("no numbers of type {other}"),
    };
    tensor.unwrap()
}

fn classes() -> Tensor {
    Tensor::from_strings(&[6], ["ant", "bee", "cat", "dog", "eel", "fox"].map(str::to_owned).into()).unwrap()
}

/// Outputs of every kind. The model declares `digit` and `digit_probs` as the label and the probabilities.
fn whole(random: &mut Random, sets: usize) -> Results {
    let mut result = |_| {
        let mut many = |n: usize, scale: f64| -> Vec<f64> { (0..n).map(|_| scale * unit(random)).collect() };
        let real = |dtype, shape: &[usize], values: Vec<f64>| numbers(dtype, shape, &values);
        let rounded = |values: Vec<f64>| values.into_iter().map(f64::round).collect::<Vec<_>>();
        let mut masked = many(24, 3.0);
        (masked[2], masked[9], masked[17]) = (f64::NEG_INFINITY, f64::INFINITY, f64::NAN);
        let mut channels = many(6 * 64, 1.0);
        channels[..64].iter_mut().for_each(|x| *x *= 1e4);
        let scores: Vec<f64> = many(6, 4.0).iter().map(|x| x.exp()).collect();
        let sum: f64 = scores.iter().sum();
        let scores: Vec<f64> = scores.iter().map(|x| x / sum).collect();
        let label = classes().strings()[largest(&scores)].clone();
        let words = many(5, 1.0).iter().map(|x| format!("word{}", (x * 1e6) as i64)).collect();
        let outputs = vec![
            ("floats", real(DType::Fp32, &[2, 3, 16], many(96, 2.0))),
            ("halves", real(DType::Fp16, &[40], many(40, 100.0))),
            ("double", real(DType::Fp64, &[], many(1, 1e3))),
            ("one", real(DType::Fp32, &[1, 1], many(1, 1.0))),
            ("offset", real(DType::Fp32, &[32], many(32, 1.0).iter().map(|x| x + 300.0).collect())),
            ("masked", real(DType::Fp32, &[1, 24], masked)),
            ("channels", real(DType::Fp32, &[1, 6, 64], channels)),
            (
                "image",
                real(
                    DType::Fp32,
                    &[1, 3, 8, 8],
                    rounded(many(192, 127.0).iter().map(|x| x + 128.0).collect()),
                ),
            ),
            ("tokens", real(DType::Int32, &[1, 12], rounded(many(12, 15_000.0)))),
            ("token", real(DType::Int32, &[], rounded(many(1, 15_000.0)))),
            ("index", real(DType::Int64, &[1, 1], rounded(many(1, 15_000.0)))),
            ("flags", real(DType::Bool, &[20], many(20, 1.0).iter().map(|x| f64::from(*x > 0.0)).collect())),
            ("words", Tensor::from_strings(&[5], words).unwrap()),
            ("digit", Tensor::string(label)),
            ("digit_probs", real(DType::Fp64, &[6], scores)),
        ];
        Prediction::new(outputs.into_iter().map(|(n, t)| (n.to_owned(), t)).collect()).with_classes(classes())
    };
    (0..sets).map(&mut result).collect()
}

fn judge(a: &[Prediction], b: &[Prediction], tolerance: Option<f64>) -> Vec<String> {
    static MODEL: LazyLock<Model> = LazyLock::new(|| Model::open(DIGITS).unwrap());
    let renames = Renames::default();
    let mut outputs = Outputs::new(&MODEL, None, false, &renames);
    a.iter().zip(b).for_each(|(a, b)| outputs.add(a, b, Differences::add));
    let mut outputs = outputs.finish(&MODEL, &MODEL);
    excuse_choices(&mut outputs);
    outputs.iter().filter_map(|o| Some(format!("{}: {}", o.name, o.failure(tolerance)?))).collect()
}

/// Replaces or removes one output in every result.
fn change(
    results: &[Prediction],
    name: &str,
    change: &mut dyn FnMut(usize, &Tensor) -> Option<Tensor>,
) -> Results {
    let with = |(i, result): (usize, &Prediction)| {
        let kept = |(n, t): &(String, Tensor)| {
            let tensor = if n == name { change(i, t)? } else { t.clone() };
            Some((n.clone(), tensor))
        };
        Prediction::new(result.outputs().iter().filter_map(kept).collect()).with_classes(classes())
    };
    results.iter().enumerate().map(with).collect()
}

/// Changes the elements of a tensor.
fn with(tensor: &Tensor, change: impl FnOnce(&mut Vec<f64>)) -> Tensor {
    let mut values = tensor.to_f64();
    change(&mut values);
    numbers(tensor.dtype(), tensor.shape(), &values)
}

/// Changes the finite elements of a tensor.
fn finite(tensor: &Tensor, change: &mut dyn FnMut(&mut [f64])) -> Tensor {
    with(tensor, |values| {
        let places: Vec<usize> = (0..values.len()).filter(|&i| values[i].is_finite()).collect();
        let mut some: Vec<f64> = places.iter().map(|&i| values[i]).collect();
        change(&mut some);
        places.iter().zip(some).for_each(|(&i, x)| values[i] = x);
    })
}

const FLOATS: [&str; 9] =
    ["floats", "halves", "double", "one", "offset", "channels", "image", "digit_probs", "masked"];
const CHOICES: [&str; 6] = ["tokens", "token", "index", "flags", "words", "digit"];

#[test]
fn what_is_whole_passes_at_any_tolerance() {
    for seed in 0..20 {
        let mut random = Random::seed_from_u64(seed);
        let sets = 2 + below(&mut random, 8);
        let a = whole(&mut random, sets);
        assert_eq!(judge(&a, &a, Some(1e9)), [""; 0], "seed {seed}");
        // Rounding stays within 60 dB, too.
        for name in FLOATS.iter().filter(|n| **n != "halves") {
            let mut change_by = |x: &mut f64| *x *= 1.0 + 1e-5 * unit(&mut random);
            let b = change(&a, name, &mut |_, t| Some(with(t, |v| v.iter_mut().for_each(&mut change_by))));
            assert_eq!(judge(&a, &b, Some(60.0)), [""; 0], "seed {seed}: {name}");
        }
    }
}

/// Asserts that the damaged output is named, and no other one.
fn caught(what: &str, name: &str, a: &[Prediction], b: &[Prediction], tolerance: Option<f64>) {
    let failures = judge(a, b, tolerance);
    let names: Vec<&str> = failures.iter().map(|f| f.split(':').next().unwrap_or_default()).collect();
    assert_eq!(names, [name], "{what} of `{name}` at {tolerance:?}: {failures:?}");
}

/// Damage that fails with and without a tolerance.
#[test]
fn what_is_broken_is_caught_without_a_tolerance() {
    for seed in 0..12 {
        let mut random = Random::seed_from_u64(seed);
        let sets = 1 + below(&mut random, 6);
        let a = whole(&mut random, sets);
        let names: Vec<String> = a[0].outputs().iter().map(|(n, _)| n.clone()).collect();
        let victim = below(&mut random, sets);
        for name in &names {
            caught("a loss", name, &a, &change(&a, name, &mut |_, _| None), None);
            caught("a gain", name, &change(&a, name, &mut |_, _| None), &a, None);
            let once = change(&a, name, &mut |i, t| (i != victim).then(|| t.clone()));
            caught("a loss in one run", name, &a, &once, None);
            let flat = |t: &Tensor| t.reshaped(&[&[1][..], t.shape()].concat()).unwrap();
            caught("another rank", name, &a, &change(&a, name, &mut |_, t| Some(flat(t))), None);
            let shorter = |t: &Tensor| match t.dtype() {
                DType::String => Tensor::from_strings(&[0], Vec::new()).unwrap(),
                d => numbers(d, &[0], &[]),
            };
            caught("an empty one", name, &a, &change(&a, name, &mut |_, t| Some(shorter(t))), None);
            for dtype in [DType::Fp32, DType::Int32, DType::Bool] {
                let a_dtype = a[0].output(name).unwrap().dtype();
                let same_kind = (a_dtype.is_float(), a_dtype.is_int()) == (dtype.is_float(), dtype.is_int());
                if !same_kind && a_dtype != DType::String {
                    let other = |t: &Tensor| numbers(dtype, t.shape(), &t.to_f64());
                    caught("another type", name, &a, &change(&a, name, &mut |_, t| Some(other(t))), None);
                }
            }
        }
        for name in FLOATS {
            for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
                let mut one = |i: usize, t: &Tensor| {
                    Some(with(t, |v| {
                        if i == victim {
                            *v.last_mut().unwrap() = value
                        }
                    }))
                };
                caught("something not finite", name, &a, &change(&a, name, &mut one), None);
                let all = change(&a, name, &mut |_, t| Some(with(t, |v| v.fill(value))));
                caught("nothing finite", name, &a, &all, None);
            }
        }
        for (at, value) in
            [(2, 0.0), (2, f64::INFINITY), (2, f64::NAN), (9, -1e30), (17, 1.0), (17, f64::INFINITY)]
        {
            let b = change(&a, "masked", &mut |i, t| {
                Some(with(t, |v| {
                    if i == victim {
                        v[at] = value
                    }
                }))
            });
            caught("a lost infinity", "masked", &a, &b, None);
        }
    }
}

#[test]
fn wrong_numbers_are_caught_at_their_tolerance() {
    for seed in 0..12 {
        let mut random = Random::seed_from_u64(100 + seed);
        let sets = 4 + below(&mut random, 4);
        let a = whole(&mut random, sets);
        let victim = below(&mut random, sets);
        for name in FLOATS {
            let few = matches!(name, "double" | "one");
            let each = |f: &dyn Fn(f64) -> f64| {
                change(&a, name, &mut |_, t| Some(finite(t, &mut |v| v.iter_mut().for_each(|x| *x = f(*x)))))
            };
            caught("the sign", name, &a, &each(&|x| -x), Some(0.0));
            caught("zeros", name, &a, &each(&|_| 0.0), Some(10.0));
            caught("a scale of 1.01", name, &a, &each(&|x| x * 1.01), Some(45.0));
            caught("a scale of 2", name, &a, &each(&|x| x * 2.0), Some(3.0));

            let stale = change(&a, name, &mut |_, _| a[0].output(name).cloned());
            caught("the first result for all", name, &a, &stale, Some(20.0));
            let swapped =
                change(&a, name, &mut |i, _| a[[1, 0].get(i).copied().unwrap_or(i)].output(name).cloned());
            caught("swapped results", name, &a, &swapped, Some(if few { 60.0 } else { 20.0 }));
            let at = |i: usize, f: &mut dyn FnMut(&mut [f64])| {
                change(&a, name, &mut |j, t| Some(if i == j { finite(t, f) } else { t.clone() }))
            };
            let lost = at(victim, &mut |v| v.fill(0.0));
            caught("one lost result", name, &a, &lost, Some(if few { 60.0 } else { 20.0 }));
            let largest =
                |v: &[f64]| (0..v.len()).max_by(|&i, &j| v[i].abs().total_cmp(&v[j].abs())).unwrap();
            if !few {
                let turned = each_set(&a, name, &mut |v| v.reverse());
                caught("a permutation", name, &a, &turned, Some(20.0));
                let doubled = at(victim, &mut |v| v[largest(v)] *= 2.0);
                caught("one element", name, &a, &doubled, Some(60.0));
                let negated = at(victim, &mut |v| v[largest(v)] *= -1.0);
                caught("the sign of one element", name, &a, &negated, Some(60.0));
                // Flips a bit of the exponent or the sign; the result may be infinite.
                let bit = 23 + below(&mut random, 9);
                let flipped = at(victim, &mut |v| {
                    let i = largest(v);
                    v[i] = f64::from(f32::from_bits((v[i] as f32).to_bits() ^ (1 << bit)));
                });
                caught("one bit", name, &a, &flipped, Some(60.0));
            }
        }
        let off = each_set(&a, "image", &mut |v| v.iter_mut().for_each(|x| *x += 1.0));
        caught("pixels off by one", "image", &a, &off, Some(60.0));
        let lost = each_set(&a, "channels", &mut |v| v[128..192].fill(0.0));
        caught("a small channel beside a huge one", "channels", &a, &lost, Some(20.0));
        let flat = each_set(&a, "offset", &mut |v| v.fill(300.0));
        caught("all but the offset", "offset", &a, &flat, Some(20.0));
    }
}

/// Infinities and NaN that are equal in both, such as a mask, do not hide errors in the rest.
#[test]
fn what_is_not_finite_hides_nothing() {
    let mut random = Random::seed_from_u64(23);
    for value in [f64::NEG_INFINITY, f64::NAN] {
        let masked = |results: &[Prediction], name: &str| {
            change(results, name, &mut |i, t| {
                Some(with(t, |v| {
                    v[5] = value;
                    v[6 + i] = value;
                }))
            })
        };
        let a = masked(&masked(&whole(&mut random, 5), "offset"), "channels");
        assert_eq!(judge(&a, &a, Some(1e9)), [""; 0]);
        let flat = each_set(&a, "offset", &mut |v| v.fill(300.0));
        caught("all but the offset", "offset", &a, &flat, Some(20.0));
        let lost = each_set(&a, "channels", &mut |v| v[128..192].fill(0.0));
        caught("a small channel beside a huge one", "channels", &a, &lost, Some(20.0));
    }
}

/// Makes the same change in every result.
fn each_set(results: &[Prediction], name: &str, f: &mut dyn FnMut(&mut [f64])) -> Results {
    change(results, name, &mut |_, t| Some(finite(t, f)))
}

#[test]
fn one_lost_result_among_many_is_caught() {
    let mut random = Random::seed_from_u64(7);
    let a = whole(&mut random, 200);
    for name in FLOATS.into_iter().filter(|n| *n != "double" && *n != "one") {
        let b = change(&a, name, &mut |i, t| {
            Some(if i == 150 { finite(t, &mut |v| v.fill(0.0)) } else { t.clone() })
        });
        caught("one lost result of 200", name, &a, &b, Some(20.0));
    }
    // A quiet sample, too: 40 dB below the others, its error is lost in the sum, so it is judged by itself.
    let quiet = change(&a, "floats", &mut |i, t| {
        Some(finite(t, &mut |v| {
            if i == 3 {
                v.iter_mut().for_each(|x| *x /= 10.0)
            }
        }))
    });
    let b = change(&quiet, "floats", &mut |i, t| {
        Some(if i == 3 { finite(t, &mut |v| v.reverse()) } else { t.clone() })
    });
    caught("a quiet result", "floats", &quiet, &b, Some(30.0));
}

#[test]
fn wrong_choices_are_caught_at_their_tolerance() {
    for seed in 0..12 {
        let mut random = Random::seed_from_u64(200 + seed);
        let sets = 4 + below(&mut random, 4);
        let a = whole(&mut random, sets);
        let victim = below(&mut random, sets);
        let other = |t: &Tensor, i: usize| match t.dtype() {
            DType::String => {
                let mut words = t.strings().to_vec();
                words[i] = if words[i] == "ant" { "bee".to_owned() } else { "ant".to_owned() };
                Tensor::from_strings(t.shape(), words).unwrap()
            }
            DType::Bool => with(t, |v| v[i] = 1.0 - v[i]),
            _ => with(t, |v| v[i] += 1.0),
        };
        for name in CHOICES {
            let all =
                change(&a, name, &mut |_, t| Some((0..t.elements()).fold(t.clone(), |t, i| other(&t, i))));
            caught("all wrong", name, &a, &all, Some(10.0));
            let mut wrong = |i: usize, t: &Tensor| {
                let at = below(&mut random, t.elements());
                Some(if i == victim { other(t, at) } else { t.clone() })
            };
            caught("one wrong", name, &a, &change(&a, name, &mut wrong), Some(60.0));
            if name != "digit" {
                let stale = change(&a, name, &mut |_, _| a[0].output(name).cloned());
                caught("the first result for all", name, &a, &stale, Some(20.0));
                let swapped = change(&a, name, &mut |i, _| {
                    a[[1, 0].get(i).copied().unwrap_or(i)].output(name).cloned()
                });
                caught("swapped results", name, &a, &swapped, Some(40.0));
            }
        }
        for name in ["tokens", "token", "index"] {
            let bit = below(&mut random, 31);
            let flip = |t: &Tensor| with(t, |v| v[0] = f64::from(v[0] as i32 ^ (1 << bit)));
            let b = change(&a, name, &mut |i, t| Some(if i == victim { flip(t) } else { t.clone() }));
            caught("one bit", name, &a, &b, Some(60.0));
            caught(
                "zeros",
                name,
                &a,
                &change(&a, name, &mut |_, t| Some(with(t, |v| v.fill(0.0)))),
                Some(20.0),
            );
        }
    }
}

/// Floats of another width are compared, and the width is reported.
#[test]
fn other_widths_are_said() {
    let mut random = Random::seed_from_u64(11);
    let a = whole(&mut random, 4);
    let b = change(&a, "floats", &mut |_, t| Some(numbers(DType::Fp16, t.shape(), &t.to_f64())));
    let mut sums = Differences::new(Measure::Numbers);
    a.iter().zip(&b).for_each(|(a, b)| sums.add(a.output("floats").unwrap(), b.output("floats").unwrap()));
    let found = sums.finish("floats");
    assert!(found.within(60.0) && !found.within(90.0), "{found:?}");
    assert_eq!(found.other_type.as_deref(), Some("fp16"));
}

#[test]
fn dictionaries_are_compared_by_key() {
    let mut random = Random::seed_from_u64(3);
    let a = whole(&mut random, 5);
    let keyed = |keys: [&str; 6], order: [usize; 6]| -> Results {
        let keys = Tensor::from_strings(&[6], keys.map(str::to_owned).into()).unwrap();
        let permuted = change(&a, "digit_probs", &mut |_, t| {
            let v = t.to_f64();
            Some(with(t, |w| order.iter().enumerate().for_each(|(to, &from)| w[to] = v[from])))
        });
        permuted.into_iter().map(|p| Prediction::new(p.into_outputs()).with_classes(keys.clone())).collect()
    };
    let turned = keyed(["fox", "eel", "dog", "cat", "bee", "ant"], [5, 4, 3, 2, 1, 0]);
    assert_eq!(judge(&a, &turned, Some(1e9)), [""; 0]);
    let swapped = keyed(["fox", "eel", "dog", "cat", "bee", "ant"], [0, 1, 2, 3, 4, 5]);
    caught("swapped keys", "digit_probs", &a, &swapped, Some(20.0));
    let other = keyed(["ant", "bee", "cat", "dog", "eel", "gnu"], [0, 1, 2, 3, 4, 5]);
    caught("another key", "digit_probs", &a, &other, None);
}

#[test]
fn what_does_not_depend_on_the_inputs_proves_nothing() {
    let results = |outputs: &[(&str, Vec<f64>)], dtype| -> Results {
        let result = |i: usize| {
            let output = |(name, all): &(&str, Vec<f64>)| {
                ((*name).to_owned(), numbers(dtype, &[1], &[all[i % all.len()]]))
            };
            Prediction::new(outputs.iter().map(output).collect())
        };
        (0..4).map(result).collect()
    };
    let varying = ("y", vec![1.0, 2.0, 3.0, 4.0]);
    for dtype in [DType::Fp32, DType::Int32] {
        let same = results(&[("x", vec![7.0])], dtype);
        caught("a constant", "x", &same, &same, Some(-100.0));
        assert_eq!(judge(&same, &same, None), [""; 0]);
    }
    // A number that never changes is not judged, even if other outputs change.
    let beside = results(&[("x", vec![0.0]), varying.clone()], DType::Fp32);
    caught("a zero", "x", &beside, &beside, Some(20.0));
    let one = &results(&[("x", vec![0.0])], DType::Fp32)[..1];
    caught("a zero, once", "x", one, one, Some(20.0));
    // A label need not change if the scores do.
    let mut label = results(&[varying], DType::Fp32);
    label.iter_mut().for_each(|p| {
        let outputs = [("digit".to_owned(), Tensor::string("ant"))].into_iter().chain(p.outputs().to_vec());
        *p = Prediction::new(outputs.collect());
    });
    assert_eq!(judge(&label, &label, Some(1e9)), [""; 0]);
    // Two empty results are equal, but prove nothing.
    let nothing = vec![Prediction::new(vec![("boxes".to_owned(), numbers(DType::Fp32, &[0, 4], &[]))]); 2];
    caught("nothing", "boxes", &nothing, &nothing, Some(20.0));
    assert_eq!(judge(&nothing, &nothing, None), [""; 0]);
    // If zero becomes something else, there is no SNR, and the output fails.
    let zero = results(&[("x", vec![0.0])], DType::Fp32);
    let other = results(&[("x", vec![0.0, 0.0, 0.0, 1e-30])], DType::Fp32);
    caught("something for zero", "x", &zero, &other, Some(-1e9));
}

fn between(a: &States, b: &States) -> Vec<OutputDifference> {
    compare_states(&[(a.clone(), b.clone())])
}

#[test]
fn damaged_states_are_caught() {
    let mut random = Random::seed_from_u64(5);
    let values: Vec<f64> = (0..64).map(|_| unit(&mut random)).collect();
    for dtype in [DType::Fp16, DType::Fp32] {
        let cache = |tensor: Tensor| States::from_iter([("cache".to_owned(), tensor)]);
        let state = |values: &[f64]| cache(numbers(dtype, &[1, 64], values));
        let a = state(&values);
        let fails = |b: &States, tolerance: Option<f64>| {
            between(&a, b).iter().filter_map(|o| o.failure(tolerance)).count() == 1
        };
        assert!(between(&a, &a).iter().all(|o| o.within(1e9)));
        // A state that was never written is still zero, as it should be.
        let zero = state(&[0.0; 64]);
        assert!(between(&zero, &zero).iter().all(|o| o.within(1e9)));
        let with = |f: &dyn Fn(usize, f64) -> f64| {
            state(&values.iter().enumerate().map(|(i, &x)| f(i, x)).collect::<Vec<_>>())
        };
        assert!(fails(&zero, Some(10.0)), "not updated");
        assert!(fails(&with(&|_, x| -x), Some(0.0)), "the sign");
        assert!(fails(&with(&|i, x| if i == 9 { x + 1.0 } else { x }), Some(60.0)), "one element");
        assert!(fails(&with(&|i, _| values[(i + 1) % 64]), Some(20.0)), "one place too far");
        assert!(fails(&with(&|i, x| if i == 9 { f64::NAN } else { x }), None), "NaN");
        assert!(fails(&States::default(), None), "lost");
        assert_eq!(between(&States::default(), &a).iter().filter_map(|o| o.failure(None)).count(), 1, "new");
        assert!(fails(&cache(numbers(DType::Int32, &[1, 64], &values)), None), "another type");
        assert!(fails(&cache(numbers(dtype, &[64], &values)), None), "another shape");
        // After a run at another size.
        let runs = |b: States| [(a.clone(), a.clone()), (a.clone(), b)];
        assert!(compare_states(&runs(a.clone())).iter().all(|o| o.within(1e9)));
        for b in [zero, with(&|_, x| -x), States::default()] {
            assert!(compare_states(&runs(b)).iter().any(|o| o.failure(Some(20.0)).is_some()));
        }
    }
}
