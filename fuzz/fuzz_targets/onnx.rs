#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| milwright_testkit::fuzz::onnx(input));
