//! The bridge against the stand-in: what goes in arrives, what comes out is right.
#![cfg(milwright_standin)]

mod standin;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use milwright_apple::{
    Array, Backing, Backings, ComputeUnits, Configuration, Device, ElementType, Error, ErrorKind, Feature,
    FeatureKind, Features, Hints, Image, ImageSizes, Label, Model, PixelFormat, Reshapes, Shapes,
    Specialization, State, Value, availability, compile, compile_async, compute_plan, devices, system, wait,
};
use standin::{AFFINE, IMAGE, STATEFUL, array, case, floats, inputs, load, package, seen};

#[test]
fn there_is_a_system() {
    case(|| {
        availability().unwrap();
        assert!(!system().unwrap().is_empty());
        let all = [
            Device::Cpu,
            Device::Gpu,
            Device::NeuralEngine { cores: 16 },
            Device::Other("MLTimeMachineComputeDevice".into()),
        ];
        assert_eq!(devices().unwrap(), all);
    });
}

#[test]
fn models_are_compiled() {
    case(|| {
        let model = package(AFFINE);
        let now = compile(&model.path).unwrap();
        assert_eq!(seen("compile"), model.path.to_str().unwrap());
        let later = wait(None, |done| compile_async(&model.path, done)).unwrap();
        for compiled in [now, later] {
            assert_eq!(compiled.file_name().unwrap(), "a model, grün.mlmodelc");
            assert_eq!(fs::read_to_string(compiled.join("standin.txt")).unwrap(), AFFINE);
            fs::remove_dir_all(compiled.parent().unwrap()).unwrap();
        }
    });
}

fn no_model(e: &Error) {
    assert_eq!(e.kind(), ErrorKind::Framework);
    assert_eq!(e.domain(), Some("com.apple.CoreML"));
    assert_eq!(e.code(), Some(3));
    assert_eq!(e.message(), "not a model: /nowhere/ä");
    assert_eq!(e.reason(), Some("because the test says so"));
    assert_eq!(e.recovery(), Some("change the test"));
    let below = e.underlying().unwrap();
    assert_eq!((below.domain(), below.code()), (Some("NSPOSIXErrorDomain"), Some(13)));
    assert_eq!(below.message(), "Permission denied");
    assert!(below.underlying().is_none());
    assert_eq!(
        std::error::Error::source(e).unwrap().to_string(),
        "Permission denied (NSPOSIXErrorDomain 13)"
    );
    assert_eq!(e.to_string(), "not a model: /nowhere/ä: because the test says so (com.apple.CoreML 3)");
}

#[test]
fn errors_have_everything_that_core_ml_says() {
    case(|| {
        let (path, configuration) = (Path::new("/nowhere/ä"), Configuration::default());
        no_model(&compile(path).unwrap_err());
        no_model(&wait(None, |done| compile_async(path, done)).unwrap_err());
        no_model(&Model::load(path, &configuration).unwrap_err());
        no_model(&wait(None, |done| Model::load_async(path, &configuration, done)).unwrap_err());
        no_model(&wait(None, |done| compute_plan(path, &configuration, done)).unwrap_err());
    });
}

#[test]
fn paths_that_no_url_can_hold_are_refused() {
    case(|| {
        let configuration = Configuration::default();
        for path in [OsStr::from_bytes(b"/\xff"), OsStr::new(""), OsStr::new("/a\0b")].map(Path::new) {
            let kinds = [
                compile(path).unwrap_err().kind(),
                wait(None, |done| compile_async(path, done)).unwrap_err().kind(),
                Model::load(path, &configuration).unwrap_err().kind(),
                wait(None, |done| Model::load_async(path, &configuration, done)).unwrap_err().kind(),
                wait(None, |done| compute_plan(path, &configuration, done)).unwrap_err().kind(),
            ];
            assert_eq!(kinds, [ErrorKind::Invalid; 5]);
            assert_eq!(seen("compile") + &seen("load"), "");
        }
    });
}

#[test]
fn configurations_arrive() {
    case(|| {
        let model = package(&format!("{AFFINE}function zwei\n"));
        let path = model.path.to_str().unwrap();
        let check = |configuration: &Configuration, expected: &str| {
            let expected = format!("{path} {expected}");
            Model::load(&model.path, configuration).unwrap();
            assert_eq!(seen("load"), expected);
            wait(None, |done| Model::load_async(&model.path, configuration, done)).unwrap();
            assert_eq!(seen("load"), expected);
            wait(None, |done| compute_plan(&model.path, configuration, done)).unwrap();
            assert_eq!(seen("load"), expected);
        };
        let default = Configuration::default();
        check(&default, "units 2 low 0 name (null) function (null) hints -1 -1");
        for (compute_units, number) in [
            (ComputeUnits::CpuOnly, 0),
            (ComputeUnits::CpuAndGpu, 1),
            (ComputeUnits::All, 2),
            (ComputeUnits::CpuAndNeuralEngine, 3),
        ] {
            let configuration = Configuration { compute_units, ..default.clone() };
            check(&configuration, &format!("units {number} low 0 name (null) function (null) hints -1 -1"));
        }
        check(
            &Configuration {
                low_precision_accumulation: true,
                function: Some("zwei".into()),
                display_name: Some("Größe".into()),
                ..default.clone()
            },
            "units 2 low 1 name Größe function zwei hints -1 -1",
        );
        for (reshapes, strategy, expected) in [
            (Reshapes::Frequent, Specialization::Default, "0 0"),
            (Reshapes::Infrequent, Specialization::Default, "1 0"),
            (Reshapes::Frequent, Specialization::FastPrediction, "0 1"),
        ] {
            let hints = Some(Hints { reshapes, specialization: strategy });
            let configuration = Configuration { hints, ..default.clone() };
            check(&configuration, &format!("units 2 low 0 name (null) function (null) hints {expected}"));
        }
        let unknown = Configuration { function: Some("drei".into()), ..default };
        assert_eq!(Model::load(&model.path, &unknown).unwrap_err().message(), "no function drei");
    });
}

#[test]
fn models_describe_themselves() {
    let text = "metadata description What it does\nmetadata version 1.5\nmetadata author Ada L.\n\
                metadata license MIT or so\nmetadata user com.x.a first value\nmetadata user com.x.b second\n\
                predicted class\nprobabilities chances\nlabels katze hund\n\
                input fixed array f16 1,3\n\
                input listed array i32 1,3 enumerated 1,3 2,4\n\
                input once array f64 5 enumerated 5\n\
                input other array f64 5 enumerated 7\n\
                input ranged array i8 1,3 range 1:9,3:-1 optional\n\
                input reaching array f32 1,2,3 range 1:2147483645,2:2147483647,3:-2\n\
                input single array f32 1 range 1:0\n\
                input only image BGRA 4 3 enumerated 4,3\n\
                input gray image L008 20 10\n\
                input sized image BGRA 4 3 enumerated 4,3 8,6\n\
                input elastic image BGRA 4 3 range 4:100 3:-1\n\
                input n int64\ninput d double optional\ninput s string\ninput q sequence\n\
                output chances dictionary string\noutput counts dictionary int64\noutput class string\n\
                state cache array f32 2,7\n";
    case(|| {
        let description = load(text).description().unwrap();
        let feature = |name: &str, optional, kind| Feature { name: name.into(), optional, kind };
        let array = |element, shape: &[usize], shapes| FeatureKind::Array {
            element: Some(element),
            shape: shape.into(),
            shapes,
        };
        let image = |width, height, format: PixelFormat, sizes| FeatureKind::Image {
            width,
            height,
            format: format.code(),
            sizes,
        };
        assert_eq!(
            description.inputs,
            [
                feature("d", true, FeatureKind::Double),
                feature(
                    "elastic",
                    false,
                    image(
                        4,
                        3,
                        PixelFormat::Bgra8,
                        ImageSizes::Range { width: (4, Some(100)), height: (3, None) }
                    )
                ),
                feature("fixed", false, array(ElementType::Float16, &[1, 3], Shapes::Fixed)),
                feature("gray", false, image(20, 10, PixelFormat::Gray8, ImageSizes::Fixed)),
                feature(
                    "listed",
                    false,
                    array(ElementType::Int32, &[1, 3], Shapes::Enumerated(vec![vec![1, 3], vec![2, 4]]))
                ),
                feature("n", false, FeatureKind::Int64),
                feature("once", false, array(ElementType::Float64, &[5], Shapes::Fixed)),
                feature("only", false, image(4, 3, PixelFormat::Bgra8, ImageSizes::Fixed)),
                feature("other", false, array(ElementType::Float64, &[5], Shapes::Enumerated(vec![vec![7]]))),
                feature("q", false, FeatureKind::Sequence),
                feature(
                    "ranged",
                    true,
                    array(ElementType::Int8, &[1, 3], Shapes::Range(vec![(1, Some(9)), (3, None)]))
                ),
                // Files with numbers of 32 bits have "no bound" as the largest of those.
                feature(
                    "reaching",
                    false,
                    array(
                        ElementType::Float32,
                        &[1, 2, 3],
                        Shapes::Range(vec![(1, Some(2147483645)), (2, None), (3, None)])
                    )
                ),
                feature("s", false, FeatureKind::String),
                feature(
                    "single",
                    false,
                    array(ElementType::Float32, &[1], Shapes::Range(vec![(1, Some(1))]))
                ),
                feature(
                    "sized",
                    false,
                    image(4, 3, PixelFormat::Bgra8, ImageSizes::Enumerated(vec![(4, 3), (8, 6)]))
                ),
            ]
        );
        assert_eq!(
            description.outputs,
            [
                feature("chances", false, FeatureKind::Dictionary { text: true }),
                feature("class", false, FeatureKind::String),
                feature("counts", false, FeatureKind::Dictionary { text: false }),
            ]
        );
        let state = FeatureKind::State { element: Some(ElementType::Float32), shape: vec![2, 7] };
        assert_eq!(description.states, [feature("cache", false, state)]);
        assert_eq!(description.predicted_feature.as_deref(), Some("class"));
        assert_eq!(description.predicted_probabilities.as_deref(), Some("chances"));
        let labels = ["katze", "hund"].map(|label| Label::String(label.into()));
        assert_eq!(description.class_labels, labels);
        let metadata = &description.metadata;
        assert_eq!(metadata.description.as_deref(), Some("What it does"));
        assert_eq!(metadata.version.as_deref(), Some("1.5"));
        assert_eq!(metadata.author.as_deref(), Some("Ada L."));
        assert_eq!(metadata.license.as_deref(), Some("MIT or so"));
        let user = [("com.x.a", "first value"), ("com.x.b", "second")];
        assert_eq!(metadata.user, BTreeMap::from(user.map(|(k, v)| (k.into(), v.into()))));

        let plain = load("integer_labels 3 -1\ninput x double\n").description().unwrap();
        assert_eq!(plain.class_labels, [Label::Int64(3), Label::Int64(-1)]);
        assert_eq!((plain.predicted_feature, plain.predicted_probabilities), (None, None));
        assert_eq!(plain.metadata, Default::default());
    });
}

/// Memory that tells when it is let go.
struct Kept<T>(T, #[expect(dead_code, reason = "it counts")] Arc<()>);

impl AsRef<[u8]> for Kept<Vec<u64>> {
    fn as_ref(&self) -> &[u8] {
        let size = size_of_val(self.0.as_slice());
        // SAFETY: the bytes of a vector of numbers.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), size) }
    }
}

impl AsMut<[u8]> for Kept<Vec<u64>> {
    fn as_mut(&mut self) -> &mut [u8] {
        let size = size_of_val(self.0.as_slice());
        // SAFETY: the bytes of a vector of numbers, which any bytes are.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), size) }
    }
}

fn kept(bytes: &[u8], count: &Arc<()>) -> Bytes {
    let mut words = Kept(vec![0u64; bytes.len().div_ceil(8) + 1], Arc::clone(count));
    words.as_mut()[..bytes.len()].copy_from_slice(bytes);
    Bytes::from_owner(words)
}

#[test]
fn arrays_are_read_where_they_lie() {
    case(|| {
        let count = Arc::new(());
        let mut model = load(AFFINE);
        let values: Vec<u8> = (1..=8).flat_map(|v| (v as f32).to_ne_bytes()).collect();
        let data = kept(&values, &count);
        let start = data.as_ptr();
        // Rows of four of which three are taken, then the same memory by columns.
        let rows = Array::strided(ElementType::Float32, &[2, 3], &[4, 1], data.slice(..32)).unwrap();
        let outputs =
            model.predict(&Features::from([("x".into(), Value::Array(rows))]), Backings::new()).unwrap();
        assert_eq!(seen("array"), format!("{start:?} 2,3 4,1 10020"));
        assert_eq!(floats(&outputs["y"]), [3.0, 5.0, 7.0, 11.0, 13.0, 15.0]);
        let columns = Array::strided(ElementType::Float32, &[2, 3], &[1, 2], data.slice(4..28)).unwrap();
        drop(data);
        let outputs =
            model.predict(&Features::from([("x".into(), Value::Array(columns))]), Backings::new()).unwrap();
        assert_eq!(seen("array"), format!("{:?} 2,3 1,2 10020", start.wrapping_add(4)));
        assert_eq!(floats(&outputs["y"]), [5.0, 9.0, 13.0, 7.0, 11.0, 15.0]);
        let Value::Array(y) = &outputs["y"] else { panic!() };
        assert_eq!((y.shape(), y.strides()), (&[2, 3][..], &[3, 1][..]));
        assert_eq!(Arc::strong_count(&count), 1, "the memory was not let go of");
    });
}

#[test]
fn memory_that_is_not_aligned_is_copied() {
    case(|| {
        let count = Arc::new(());
        let mut bytes = vec![9];
        bytes.extend((1..=6).flat_map(|v| (v as f32).to_ne_bytes()));
        let data = kept(&bytes, &count).slice(1..25);
        let start = data.as_ptr();
        let x = Array::new(ElementType::Float32, &[2, 3], data).unwrap();
        let outputs =
            load(AFFINE).predict(&Features::from([("x".into(), Value::Array(x))]), Backings::new()).unwrap();
        assert_eq!(floats(&outputs["y"]), [3.0, 5.0, 7.0, 9.0, 11.0, 13.0]);
        assert!(!seen("array").starts_with(&format!("{start:?}")));
        assert!(seen("array").ends_with(" 2,3 3,1 10020"));
        assert_eq!(Arc::strong_count(&count), 1);
    });
}

#[test]
fn every_element_type_goes_in_and_out() {
    let types = [
        ("f16", ElementType::Float16, "10010", [0x3c00u64, 0x4000]),
        ("f32", ElementType::Float32, "10020", [1f32.to_bits().into(), 2f32.to_bits().into()]),
        ("f64", ElementType::Float64, "10040", [1f64.to_bits(), 2f64.to_bits()]),
        ("i8", ElementType::Int8, "20008", [1, 2]),
        ("i32", ElementType::Int32, "20020", [1, 2]),
    ];
    case(|| {
        for (name, element, number, [one, two]) in &types {
            let mut model =
                load(&format!("input x array {name} 1,2\noutput y array {name} 1,2\naffine y x 2 0\n"));
            let bytes = |n: &u64| n.to_ne_bytes()[..element.size()].to_vec();
            let x = Array::new(*element, &[1, 2], [bytes(one), bytes(one)].concat().into()).unwrap();
            let outputs =
                model.predict(&Features::from([("x".into(), Value::Array(x))]), Backings::new()).unwrap();
            assert!(seen("array").ends_with(&format!(" 1,2 2,1 {number}")), "{}", seen("array"));
            let y = Array::new(*element, &[1, 2], [bytes(two), bytes(two)].concat().into()).unwrap();
            assert_eq!(outputs["y"], Value::Array(y));
        }
    });
}

#[test]
fn outputs_are_written_into_memory_of_the_callers() {
    case(|| {
        let count = Arc::new(());
        let mut model = load(AFFINE);
        for asynchronous in [false, true] {
            let mut memory = Kept(vec![u64::MAX; 4], Arc::clone(&count));
            let start = memory.as_mut().as_ptr();
            let backing = Backing::over(ElementType::Float32, &[2, 3], memory).unwrap();
            let backings = Backings::from([("y".to_owned(), backing)]);
            let inputs = inputs(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
            let outputs = if asynchronous {
                wait(None, |done| model.predict_async(&inputs, backings, done)).unwrap()
            } else {
                model.predict(&inputs, backings).unwrap()
            };
            assert_eq!(floats(&outputs["y"]), [3.0, 5.0, 7.0, 9.0, 11.0, 13.0]);
            let Value::Array(y) = &outputs["y"] else { panic!() };
            assert_eq!(y.data().as_ptr(), start);
            standin::wait_idle();
            assert_eq!(Arc::strong_count(&count), 2);
            drop(outputs);
            assert_eq!(Arc::strong_count(&count), 1, "the memory was not let go of");
        }
        let unfit =
            Backing::over(ElementType::Float32, &[3, 2], Kept(vec![0; 4], Arc::clone(&count))).unwrap();
        let e =
            model.predict(&inputs(&[2, 3], &[0.0; 6]), Backings::from([("y".into(), unfit)])).unwrap_err();
        assert_eq!(e.message(), "The backing of y does not fit.");
        assert_eq!(Arc::strong_count(&count), 1);
    });
}

#[test]
fn two_outputs_are_not_mixed_up() {
    let text = "input x array f32 2\ninput z array f32 2\noutput a array f32 2\noutput b array f32 2\n\
                output c array f32 2\naffine a x 1 10\naffine b z 1 20\naffine c x 1 30\n";
    case(|| {
        let mut model = load(text);
        let features = Features::from([
            ("x".to_owned(), array(&[2], &[1.0, 2.0])),
            ("z".to_owned(), array(&[2], &[3.0, 4.0])),
        ]);
        let backing = || Backing::new(ElementType::Float32, &[2]).unwrap();
        let backings = Backings::from([("b".to_owned(), backing()), ("a".to_owned(), backing())]);
        let outputs = model.predict(&features, backings).unwrap();
        assert_eq!(outputs.keys().collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(floats(&outputs["a"]), [11.0, 12.0]);
        assert_eq!(floats(&outputs["b"]), [23.0, 24.0]);
        assert_eq!(floats(&outputs["c"]), [31.0, 32.0]);
    });
}

#[test]
fn inputs_are_checked_by_core_ml() {
    case(|| {
        let mut model = load(AFFINE);
        let e = model.predict(&Features::new(), Backings::new()).unwrap_err();
        assert_eq!((e.code(), e.message()), (Some(1), "Feature x is required but not specified."));
        let e = model.predict(&inputs(&[3, 2], &[0.0; 6]), Backings::new()).unwrap_err();
        assert_eq!(e.message(), "Feature x is of a wrong type or shape.");
    });
}

#[test]
fn other_values_go_in_and_out() {
    let kinds =
        ["int64", "double", "string", "dictionary string", "dictionary int64", "sequence", "sequence"];
    case(|| {
        let labelled = |labels: [Label; 2]| Value::Dictionary(labels.into_iter().zip([0.1, -1.5]).collect());
        let values = [
            Value::Int64(i64::MIN + 1),
            Value::Double(-0.1),
            Value::String("¿qué? 🦀".into()),
            labelled([Label::String("a".into()), Label::String("ö".into())]),
            labelled([Label::Int64(-7), Label::Int64(1 << 60)]),
            Value::Strings(vec!["b".into(), "".into(), "a".into()]),
            Value::Integers(vec![3, i64::MAX, -2]),
        ];
        for (kind, value) in kinds.iter().zip(values) {
            let mut model = load(&format!("input x {kind}\noutput y {kind}\necho y x\n"));
            let outputs = model.predict(&Features::from([("x".into(), value.clone())]), Backings::new());
            assert_eq!(outputs.unwrap(), Features::from([("y".into(), value)]));
        }
    });
}

#[test]
fn images_are_read_where_they_lie() {
    case(|| {
        let count = Arc::new(());
        let cases = [
            (PixelFormat::Bgra8, "BGRA", 4),
            (PixelFormat::Gray8, "L008", 1),
            (PixelFormat::Gray16Half, "L00h", 2),
        ];
        for (format, name, size) in cases {
            let mut model = load(&IMAGE.replace("BGRA", name));
            let (width, height, row_bytes) = (2, 3, 12);
            let pixels: Vec<u8> = (0..36).collect();
            let data = kept(&pixels, &count);
            let start = data.as_ptr();
            let image = Image::new(format, width, height, row_bytes, data).unwrap();
            let outputs =
                model.predict(&Features::from([("x".into(), Value::Image(image))]), Backings::new());
            let code = format.code();
            assert_eq!(seen("image"), format!("2 x 3 of {code:08x} in 12 at {start:?}"));
            let outputs = outputs.unwrap();
            let Value::Image(y) = &outputs["y"] else { panic!() };
            assert_eq!((y.format(), y.width(), y.height(), y.row_bytes()), (format, 2, 3, 28));
            // The last row needs no padding: who wrapped the memory need not have any.
            assert_eq!(y.data().len(), 2 * 28 + 2 * size);
            for row in 0..3 {
                let line = &y.data()[row * 28..][..2 * size];
                let expected: Vec<u8> = (0..2 * size).map(|i| 255 - (row * 12 + i) as u8).collect();
                assert_eq!(line, expected);
            }
            assert_eq!(Arc::strong_count(&count), 1, "the memory was not let go of");
        }
    });
}

#[test]
fn states_are_kept_and_apart() {
    case(|| {
        let mut model = load(STATEFUL);
        let (mut a, mut b) = (model.new_state().unwrap(), model.new_state().unwrap());
        let mut step = |state: &mut State, x: f32, asynchronous| {
            let inputs = inputs(&[3], &[x, 2.0 * x, 3.0 * x]);
            let outputs = if asynchronous {
                wait(None, |done| model.predict_with_state_async(&inputs, state, Backings::new(), done))
            } else {
                model.predict_with_state(&inputs, state, Backings::new())
            };
            standin::wait_idle();
            floats(&outputs.unwrap()["y"])
        };
        assert_eq!(step(&mut a, 1.0, false), [1.0, 2.0, 3.0]);
        assert_eq!(step(&mut a, 1.0, true), [2.0, 4.0, 6.0]);
        assert_eq!(step(&mut b, 5.0, false), [5.0, 10.0, 15.0]);
        let held = a.read("s").unwrap();
        assert_eq!((held.element(), held.shape()), (ElementType::Float16, &[3][..]));
        assert_eq!(held.packed(), [0x4000u16, 0x4400, 0x4600].map(u16::to_ne_bytes).concat());
        let new = [0x3c00u16, 0, 0].map(u16::to_ne_bytes).concat();
        let new = Array::new(ElementType::Float16, &[3], new.into()).unwrap();
        a.write("s", &new).unwrap();
        assert_eq!(a.read("s").unwrap(), new);
        assert_eq!(step(&mut a, 1.0, false), [2.0, 2.0, 3.0]);
        // Its rows have gaps.
        let Value::Array(t) = array(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]) else { panic!() };
        a.write("t", &t).unwrap();
        assert_eq!(a.read("t").unwrap(), t);
        assert_eq!(b.read("t").unwrap().packed(), vec![0; 24]);
        let other_shape = Array::new(ElementType::Float16, &[2], vec![0; 4].into()).unwrap();
        let other_type = Array::new(ElementType::Int32, &[2, 3], vec![0; 24].into()).unwrap();
        for unfit in [("s", &t), ("t", &new), ("s", &other_shape), ("t", &other_type)] {
            assert_eq!(a.write(unfit.0, unfit.1).unwrap_err().kind(), ErrorKind::Invalid);
        }
        assert_eq!((a.read("t").unwrap(), a.read("s").unwrap().shape()), (t.clone(), &[3][..]));
        assert_eq!(a.read("u").unwrap_err().kind(), ErrorKind::Invalid);
        assert_eq!(a.write("u", &t).unwrap_err().kind(), ErrorKind::Invalid);
        let none = model.predict(&inputs(&[3], &[0.0; 3]), Backings::new()).unwrap_err();
        assert_eq!(none.message(), "The model needs a state.");
    });
}

#[test]
fn outputs_of_stateful_models_are_written_into_memory_of_the_callers() {
    case(|| {
        let mut model = load(STATEFUL);
        let mut state = model.new_state().unwrap();
        let inputs = inputs(&[3], &[1.0, 2.0, 3.0]);
        for asynchronous in [false, true] {
            let memory = vec![0u64; 2];
            let start = memory.as_ptr().cast::<u8>();
            let backing = Backing::over(ElementType::Float32, &[3], Kept(memory, Arc::new(()))).unwrap();
            let backings = Backings::from([("y".to_owned(), backing)]);
            let outputs = if asynchronous {
                wait(None, |done| model.predict_with_state_async(&inputs, &mut state, backings, done))
                    .unwrap()
            } else {
                model.predict_with_state(&inputs, &mut state, backings).unwrap()
            };
            let Value::Array(y) = &outputs["y"] else { panic!() };
            assert_eq!(y.data().as_ptr(), start);
        }
    });
}

#[test]
fn batches_keep_their_order() {
    case(|| {
        let mut model = load(AFFINE);
        let batch = [1.0, 2.0, 3.0].map(|x| inputs(&[2, 3], &[x; 6]));
        let outputs = model.predict_batch(&batch).unwrap();
        let firsts: Vec<f32> = outputs.iter().map(|o| floats(&o["y"])[0]).collect();
        assert_eq!(firsts, [3.0, 5.0, 7.0]);
        assert_eq!(model.predict_batch(&[]).unwrap(), []);
        let bad = [inputs(&[2, 3], &[0.0; 6]), Features::new()];
        assert_eq!(model.predict_batch(&bad).unwrap_err().code(), Some(1));
    });
}

#[test]
fn plans_name_the_device_of_every_op() {
    let text = format!(
        "{AFFINE}function zwei\n\
         op main 0 const w - - -\n\
         op main 0 ios17.conv y,y2 ane cpu,gpu,ane 0.1\n\
         op main 0 cond z cpu cpu -\n\
         op main 1 add a gpu cpu,gpu 0.125\n\
         op main 2 mul b time time 0.0625\n\
         op main 1 sub c cpu cpu 0.5\n\
         op aux 0 relu r cpu cpu,ane 1\n\
         layer convolution out,rest gpu gpu,cpu\n\
         layer softmax last - -\n"
    );
    case(|| {
        let model = package(&text);
        let plan = wait(None, |done| compute_plan(&model.path, &Configuration::default(), done)).unwrap();
        let time = Device::Other("MLTimeMachineComputeDevice".into());
        let ane = Device::NeuralEngine { cores: 16 };
        let (cpu, gpu) = (Device::Cpu, Device::Gpu);
        let rows: Vec<_> = plan
            .ops
            .iter()
            .map(|op| {
                (
                    &*op.function,
                    &*op.operator,
                    op.outputs.join(","),
                    op.preferred.clone(),
                    &op.supported[..],
                    op.cost,
                )
            })
            .collect();
        let name = |name: &str| name.to_owned();
        assert_eq!(
            rows,
            [
                ("aux", "relu", name("r"), Some(cpu.clone()), &[cpu.clone(), ane.clone()][..], Some(1.0)),
                ("main", "const", name("w"), None, &[], None),
                (
                    "main",
                    "ios17.conv",
                    name("y,y2"),
                    Some(ane.clone()),
                    &[cpu.clone(), gpu.clone(), ane.clone()],
                    Some(0.1)
                ),
                ("main", "cond", name("z"), Some(cpu.clone()), std::slice::from_ref(&cpu), None),
                ("main", "add", name("a"), Some(gpu.clone()), &[cpu.clone(), gpu.clone()], Some(0.125)),
                ("main", "mul", name("b"), Some(time.clone()), std::slice::from_ref(&time), Some(0.0625)),
                ("main", "sub", name("c"), Some(cpu.clone()), std::slice::from_ref(&cpu), Some(0.5)),
            ]
        );
        let layers: Vec<_> = plan
            .layers
            .iter()
            .map(|op| {
                (
                    &*op.function,
                    &*op.operator,
                    op.outputs.join(","),
                    op.preferred.clone(),
                    &op.supported[..],
                    op.cost,
                )
            })
            .collect();
        assert_eq!(
            layers,
            [
                (
                    "",
                    "convolution",
                    name("out,rest"),
                    Some(gpu.clone()),
                    &[gpu.clone(), cpu.clone()][..],
                    None
                ),
                ("", "softmax", name("last"), None, &[], None),
            ]
        );
    });
}

#[test]
fn models_and_states_go_from_thread_to_thread() {
    case(|| {
        let mut model = load(STATEFUL);
        let mut state = model.new_state().unwrap();
        standin::on_a_thread(move || {
            let outputs = model.predict_with_state(&inputs(&[3], &[1.0; 3]), &mut state, Backings::new());
            assert_eq!(floats(&outputs.unwrap()["y"]), [1.0; 3]);
        });
    });
}
