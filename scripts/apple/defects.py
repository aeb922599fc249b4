#!/usr/bin/env python3
"""Seeds defects into a copy of the bridge, one at a time: the tests have to catch every one.

Usage: defects.py [--part I/N] [NAME...]
       defects.py --races

Each defect replaces a piece of text that has to be there exactly once, so that a change of the bridge cannot quietly
switch one off. A defect counts as caught when the crate builds and its tests fail. Races are for ThreadSanitizer, whose
standard library scripts/apple_evidence.sh builds (its step `threads`).
"""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COPY = ROOT / ".cache/apple/defects"
# The random faults find them, too, but slowly.
SKIPPED = ["a_core_ml_that_fails_at_random"]
TIMEOUT = 240

MOD, EDGE, CONVERT, FEATURE, IMAGE, DESCRIBE, MODEL, STATE, PLAN = (
    f"crates/apple/src/bridge/{name}.rs"
    for name in ("mod", "edge", "convert", "feature", "image", "describe", "model", "state", "plan")
)
FLIGHT = "crates/apple/src/flight.rs"

# name, file, what stands there, what is put there
DEFECTS = [
    # Something is never let go of.
    ("leak: a URL", CONVERT, "Ok(NSURL::fileURLWithPath(&NSString::from_str(text)))",
     "let u = NSURL::fileURLWithPath(&NSString::from_str(text)); std::mem::forget(u.clone()); Ok(u)"),
    ("leak: the numbers of a shape", CONVERT, "    NSArray::from_retained_slice(&numbers)\n}",
     "    let array = NSArray::from_retained_slice(&numbers); std::mem::forget(array.clone()); array\n}"),
    ("leak: a dictionary", CONVERT, "    NSDictionary::from_retained_objects(&keys, &values)\n",
     "    let d = NSDictionary::from_retained_objects(&keys, &values); std::mem::forget(d.clone()); d\n"),
    ("leak: the memory of an array", FEATURE, "drop(owner.lock().unwrap_or_else(PoisonError::into_inner).take());",
     "std::mem::forget(owner.lock().unwrap_or_else(PoisonError::into_inner).take());"),
    ("leak: a deallocator block", FEATURE, "    array.ok_or_else(|| failed(\"make an array\", error))",
     "    std::mem::forget(release); array.ok_or_else(|| failed(\"make an array\", error))"),
    ("leak: an array", FEATURE, "                let array = multi_array(array)?;",
     "                let array = multi_array(array)?; std::mem::forget(array.clone());"),
    ("leak: prediction options", FEATURE, "    let options = some(options, \"prediction options\")?;",
     "    let options = some(options, \"prediction options\")?; std::mem::forget(options.clone());"),
    ("leak: a pixel buffer", IMAGE, "unsafe { CVPixelBufferRelease(self.0.as_ptr()) }", "let _ = CVPixelBufferRelease;"),
    ("leak: the memory of an image", IMAGE, "    drop(unsafe { Box::<Bytes>::from_raw(context.cast()) });",
     "    std::mem::forget(unsafe { Box::<Bytes>::from_raw(context.cast()) });"),
    ("leak: the memory of an image that was not made", IMAGE, "            unsafe { release(context, ptr::null()) };", ""),
    ("leak: a model or a state", EDGE, "            unsafe { ManuallyDrop::drop(&mut self.0) };", "            let _ = &mut self.0;"),
    ("leak: a loaded model", MODEL, "Ok(Model::new(model.retain()))", "Ok({ std::mem::forget(model.retain()); Model::new(model.retain()) })"),
    ("leak: a configuration", MODEL, "    let configuration = some(configuration, \"configuration\")?;",
     "    let configuration = some(configuration, \"configuration\")?; std::mem::forget(configuration.clone());"),
    ("leak: hints", MODEL, "    let hints = some(hints, \"optimization hints\")?;",
     "    let hints = some(hints, \"optimization hints\")?; std::mem::forget(hints.clone());"),
    ("leak: a completion block", EDGE, "        let started = enter(move || call(&block));",
     "        let started = enter(|| call(&block)); std::mem::forget(block);"),
    ("leak: an exception", EDGE, "        Err(thrown) => Err(from_exception(thrown)),",
     "        Err(thrown) => { std::mem::forget(thrown.clone()); Err(from_exception(thrown)) }"),
    ("leak: an error", EDGE, "        Some(e) => error(&e),", "        Some(e) => { let r = error(&e); std::mem::forget(e); r }"),
    ("leak: an output", FEATURE, "    let copy = RefCell::new(None);", "    std::mem::forget(objc2::Message::retain(array)); let copy = RefCell::new(None);"),
    ("leak: the pass of a model", MODEL, "            drop(passes);", "            std::mem::forget(passes);"),
    # No pool of its own.
    ("pool: none anywhere", EDGE, "    autoreleasepool(|_| match exception::catch(AssertUnwindSafe(call)) {",
     "    (|| match exception::catch(AssertUnwindSafe(call)) {"),
    ("pool: none in compile", MOD, "    enter(|| {\n        // The one", "    (|| -> Result<PathBuf> {\n        // The one"),
    ("pool: none in system", MOD, "enter(|| Ok(NSProcessInfo::processInfo().operatingSystemVersionString().to_string()))",
     "Ok(NSProcessInfo::processInfo().operatingSystemVersionString().to_string())"),
    ("pool: none in load", MODEL, "        enter(|| {\n            let url = url(path)?;", "        (|| -> Result<_> {\n            let url = url(path)?;"),
    ("pool: none in description", MODEL, "        enter(|| {\n            // SAFETY: a getter.", "        (|| -> Result<_> {\n            // SAFETY: a getter."),
    ("pool: none in new_state", MODEL, "        enter(|| {\n            if AnyClass", "        (|| -> Result<_> {\n            if AnyClass"),
    ("pool: none in predict_batch", MODEL, "        enter(|| {\n            let inputs = self::batch", "        (|| -> Result<_> {\n            let inputs = self::batch"),
    ("pool: none for backings", MODEL, "match enter(|| backed(backings)) {", "match backed(backings) {"),
    ("pool: none in devices", PLAN, "    enter(|| {\n        let class", "    (|| -> Result<_> {\n        let class"),
    ("pool: none in states", STATE, "        enter(|| {\n            let result = Cell", "        (|| -> Result<_> {\n            let result = Cell"),
    ("pool: none in a handler", EDGE, "            enter(|| {\n                // SAFETY: Core ML calls back", "            (|| -> Result<_> {\n                // SAFETY: Core ML calls back"),
    ("pool: none when starting", EDGE, "enter(move || call(&block));", "(move || call(&block))();"),
    ("pool: none when letting go", EDGE, "        let _ = enter(|| {\n            // SAFETY: this is the only", "        let _ = (|| -> Result<()> {\n            // SAFETY: this is the only"),
    # Arguments in the wrong order, one for another.
    ("swap: shape and strides", FEATURE, "let (shape, strides) = (numbers(shape), numbers(strides));",
     "let (strides, shape) = (numbers(shape), numbers(strides));"),
    ("swap: strides that are ignored", FEATURE, "return over(array.shape(), array.element(), start, array.strides(), data);",
     "return over(array.shape(), array.element(), start, &packed_strides(array.shape()), data);"),
    ("swap: shape and strides of outputs", FEATURE, "    Ok((shape, element, strides))\n", "    Ok((strides, element, shape))\n"),
    ("swap: gather", FEATURE, "gather(data, element.size(), &shape, &strides)", "gather(data, element.size(), &shape, &packed_strides(&shape))"),
    ("swap: scatter", STATE, "scatter(&packed, data, element.size(), &shape, &strides)", "scatter(&packed, data, element.size(), &shape, &crate::array::packed_strides(&shape))"),
    ("swap: width and height", IMAGE, "            image.width(),\n            image.height(),", "            image.height(),\n            image.width(),"),
    ("swap: width and height of outputs", IMAGE, "Image::new(format, width, height, row_bytes, data.into())",
     "Image::new(format, height, width, row_bytes, data.into())"),
    ("swap: the row of an image", IMAGE, "            image.row_bytes(),", "            image.width() * image.format().size(),"),
    ("swap: keys and values of labels", FEATURE, "let (keys, values) = (NSArray::from_retained_slice(&keys)", "keys.reverse(); let (keys, values) = (NSArray::from_retained_slice(&keys)"),
    ("swap: inputs and outputs", DESCRIBE, "inputs: features(&*some(inputs, \"descriptions of inputs\")?)?,\n        outputs: features(&*some(outputs, \"descriptions of outputs\")?)?,",
     "outputs: features(&*some(inputs, \"descriptions of inputs\")?)?,\n        inputs: features(&*some(outputs, \"descriptions of outputs\")?)?,"),
    ("swap: predicted names", DESCRIBE, "(inputs, outputs, feature, probabilities, metadata)", "(inputs, outputs, probabilities, feature, metadata)"),
    ("swap: author and license", DESCRIBE, "        author: field(author)?,\n        license: field(license)?,", "        author: field(license)?,\n        license: field(author)?,"),
    ("swap: ranges of a size", DESCRIBE, "width: bounds(constraint.pixelsWideRange()),\n                height: bounds(constraint.pixelsHighRange()),",
     "height: bounds(constraint.pixelsWideRange()),\n                width: bounds(constraint.pixelsHighRange()),"),
    ("swap: sides of a size", DESCRIBE, "Ok((pixels(s.pixelsWide())?, pixels(s.pixelsHigh())?))", "Ok((pixels(s.pixelsHigh())?, pixels(s.pixelsWide())?))"),
    ("swap: sides of an image", DESCRIBE, "let (width, height) = (pixels(width)?, pixels(height)?);", "let (height, width) = (pixels(width)?, pixels(height)?);"),
    ("swap: the ends of a range", CONVERT, "(range.location, (highest < UNBOUNDED).then_some(highest))", "(range.length, (highest < UNBOUNDED).then_some(highest))"),
    ("swap: compute units", MODEL, "ComputeUnits::CpuAndGpu => MLComputeUnits::CPUAndGPU", "ComputeUnits::CpuAndGpu => MLComputeUnits::CPUAndNeuralEngine"),
    ("swap: hints", MODEL, "Reshapes::Frequent => MLReshapeFrequencyHint::Frequent,\n            Reshapes::Infrequent => MLReshapeFrequencyHint::Infrequent,",
     "Reshapes::Frequent => MLReshapeFrequencyHint::Infrequent,\n            Reshapes::Infrequent => MLReshapeFrequencyHint::Frequent,"),
    ("swap: display name and function", MODEL, "configuration.setModelDisplayName(Some(", "configuration.setFunctionName(Some("),
    ("swap: low precision", MODEL, "setAllowLowPrecisionAccumulationOnGPU(wanted.low_precision_accumulation)", "setAllowLowPrecisionAccumulationOnGPU(!wanted.low_precision_accumulation)"),
    ("swap: devices", PLAN, "Ok((Some(preferred), supported.iter().map(|d| device(&d)).collect::<Result<_>>()?))",
     "Ok((Some(device(&supported.iter().next().unwrap())?), vec![preferred]))"),
    ("swap: operator and function", PLAN, "operations(plan, &name.to_string(), &*some(block", "operations(plan, \"main\", &*some(block"),
    ("swap: element types", CONVERT, "ElementType::Float16 => MLMultiArrayDataType::Float16", "ElementType::Float16 => MLMultiArrayDataType::Int8"),
    ("swap: backings", FEATURE, "let ours = backed.arrays.iter().find(|(ours, _)| std::ptr::eq(&**ours, array));", "let ours = backed.arrays.first();"),
    ("swap: reason and recovery", EDGE, "reason: e.localizedFailureReason()", "reason: e.localizedRecoverySuggestion()"),
    ("swap: domain and message", EDGE, "domain: e.domain().to_string(),", "domain: e.localizedDescription().to_string(),"),
    ("swap: start and row of a write", STATE, "call(array))));", "call(array))).filter(|_| false));"),
    ("pool: none in predict", MODEL, "        let _pass = self.flight.claim(\"model\")?;\n        enter(|| {\n            let inputs = provider(inputs)?;",
     "        let _pass = self.flight.claim(\"model\")?;\n        (|| -> Result<_> {\n            let inputs = provider(inputs)?;"),
    ("pool: none in predict_with_state", MODEL, "state.flight.claim(\"state\")?);\n        enter(|| {\n            let inputs = provider(inputs)?;",
     "state.flight.claim(\"state\")?);\n        (|| -> Result<_> {\n            let inputs = provider(inputs)?;"),
    # An error that is not told.
    ("dropped: the error of compile", MOD, "edge::failed(\"compile the model\", error)", "edge::failed(\"compile the model\", { drop(error); None })"),
    ("dropped: the error of load", MODEL, "failed(\"load the model\", error)", "failed(\"load the model\", { drop(error); None })"),
    ("dropped: the error of a batch", MODEL, "failed(\"predict a batch\", error)", "failed(\"predict a batch\", { drop(error); None })"),
    ("dropped: the error of inputs", FEATURE, "failed(\"take the inputs\", error)", "failed(\"take the inputs\", { drop(error); None })"),
    ("dropped: the error of an array", FEATURE, "failed(\"make an array\", error)", "failed(\"make an array\", { drop(error); None })"),
    ("dropped: the error of a dictionary", FEATURE, "failed(\"take a dictionary\", error)", "failed(\"take a dictionary\", { drop(error); None })"),
    ("dropped: the error of a handler", EDGE, "(None, Some(error)) => Err(self::error(error)),", "(None, Some(_)) => Err(Error::protocol(\"it failed\")),"),
    ("dropped: the code", EDGE, "code: e.code() as i64,", "code: 0,"),
    ("dropped: the cause", EDGE, "underlying: underlying.filter(|_| depth < MAX_UNDERLYING).map(|u| error_at(u, depth + 1)),", "underlying: { let _ = (underlying, MAX_UNDERLYING, depth); None },"),
    ("dropped: an exception", EDGE, "ErrorKind::Exception,\n", "ErrorKind::Framework,\n"),
    ("dropped: a failed start", EDGE, "            finish.with(|| Err(e));", "            let _ = e;"),
    ("dropped: a handler that is let go", FLIGHT, "impl<R> Drop for Finish<R> {\n    fn drop(&mut self) {\n", "impl<R> Drop for Finish<R> {\n    fn drop(&mut self) {\n        return;\n"),
    ("dropped: a missing output", FEATURE, "        outputs.insert(key, value);", "        outputs.insert(key, value); break;"),
    ("dropped: a failed lock", IMAGE, "    if status != 0 {\n        return Err(Error::protocol(format!(\"Core Video did not lock", "    if false {\n        return Err(Error::protocol(format!(\"Core Video did not lock"),
    ("dropped: an image that stays locked", IMAGE, "        CVPixelBufferUnlockBaseAddress(buffer, READ_ONLY);", "        let _ = CVPixelBufferUnlockBaseAddress;"),
    ("dropped: too few bytes", FEATURE, "needed <= n && len <= n", "needed <= n + 8 && len <= n + 8"),
    ("dropped: a wrong count", FEATURE, "shape.len() != strides.len() || size(count as i64, \"count\")? != elements", "shape.len() != strides.len() || (size(count as i64, \"count\")? != elements && false)"),
    ("dropped: a short batch", FEATURE, "usize::try_from(count) != Ok(expected)", "usize::try_from(count) != Ok(expected) && false"),
    # A handler that is called twice, or a prediction that begins while another one runs.
    ("twice: two predictions of a model", FLIGHT, "if self.0.swap(true, Ordering::Acquire) {", "if self.0.swap(true, Ordering::Acquire) && false {"),
    ("twice: a state is not claimed", MODEL, "Ok((model, Some(state.flight.claim(\"state\")?)))", "Ok((model, None))"),
    ("twice: a state is read", STATE, "let _pass = self.flight.claim(\"state\")?;", ""),
    ("twice: a panic unwinds", FLIGHT, "let _ = catch_unwind(AssertUnwindSafe(|| done(result())));", "let _ = catch_unwind::<fn(), ()>; done(result());"),
    ("twice: the memory is let go of twice", IMAGE, "    match NonNull::new(buffer) {", "    unsafe { release(context, ptr::null()) };\n    match NonNull::new(buffer) {"),
    ("twice: an object is released twice", FEATURE, "    let options = some(options, \"prediction options\")?;",
     "    let options = some(options, \"prediction options\")?; unsafe { objc2::ffi::objc_release(Retained::as_ptr(&options) as *mut _) };"),
    ("twice: a model is released twice", EDGE, "            unsafe { ManuallyDrop::drop(&mut self.0) };",
     "            unsafe { let p = Retained::as_ptr(&self.0) as *mut _; ManuallyDrop::drop(&mut self.0); objc2::ffi::objc_release(p) };"),
    ("twice: a completion block is released twice", EDGE, "        let started = enter(move || call(&block));",
     "        let started = enter(|| call(&block)); drop(unsafe { std::ptr::read(&block) }); drop(block);"),
]

# Only ThreadSanitizer sees that nothing keeps the threads apart.
RACES = [
    ("race: a claim that sees nothing of what was before it", FLIGHT, "self.0.swap(true, Ordering::Acquire)",
     "self.0.swap(true, Ordering::Relaxed)"),
    ("race: a pass that shows nothing of what was done", FLIGHT, "self.0.0.store(false, Ordering::Release)",
     "self.0.0.store(false, Ordering::Relaxed)"),
]

# Defects that need more than one place.
DOUBLE_COMPLETION = [
    (FLIGHT, "type Done<R> = Box<dyn FnOnce(Result<R>) + Send>;", "type Done<R> = Arc<dyn Fn(Result<R>) + Send + Sync>;"),
    (FLIGHT, "unwrap_or_else(PoisonError::into_inner).take();\n        let Some(done)", "unwrap_or_else(PoisonError::into_inner).clone();\n        let Some(done)"),
    (FLIGHT, "Finish(Mutex::new(Some(Box::new(done))))",
     "Finish(Mutex::new(Some({ let done = Mutex::new(Box::new(done)); Arc::new(move |r: Result<R>| { let g = done.lock().unwrap(); "
     "let f = unsafe { std::ptr::read(&**g) }; drop(g); f(r) }) })))"),
]


ENVIRONMENT = {
    "BRIDGE": str(COPY),
    "STANDIN": str(ROOT / ".cache/apple/standin-defects"),
    "STANDIN_TARGET": str(ROOT / ".cache/apple/defects-target"),
    "STANDIN_RUSTFLAGS": "--cap-lints=warn -Awarnings",
    "RUST_BACKTRACE": "0",
}
TARGET = []
THREADS = {
    "STANDIN": str(ROOT / ".cache/apple/standin-tsan"),
    "STANDIN_INSTRUMENT": "-fsanitize=thread",
    "STANDIN_TARGET": str(ROOT / ".cache/apple/races-target"),
    "STANDIN_RUSTFLAGS": f"--cap-lints=warn -Awarnings -Zsanitizer=thread --sysroot={ROOT}/.cache/apple/sysroot-tsan",
    "RUSTC_BOOTSTRAP": "1",
    "TSAN_OPTIONS": f"suppressions={ROOT}/scripts/apple/tsan.supp atexit_sleep_ms=0",
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", default="1/1", help="every N-th defect, from the I-th on")
    parser.add_argument("--races", action="store_true", help="races, which ThreadSanitizer has to find")
    parser.add_argument("names", nargs="*", help="only defects whose name contains one of these")
    options = parser.parse_args()
    first, step = map(int, options.part.split("/"))
    defects = [(name, [(file, old, new)]) for name, file, old, new in DEFECTS]
    defects.append(("twice: a handler is called as often as Core ML calls", DOUBLE_COMPLETION))
    races = [(name, [(file, old, new)]) for name, file, old, new in RACES]
    check(defects + races)
    if options.races:
        ENVIRONMENT.update(THREADS)
        TARGET.extend(["--target", "x86_64-unknown-linux-gnu"])
        defects = races
    if options.names:
        defects = [d for d in defects if any(name in d[0] for name in options.names)]
    defects = defects[first - 1 :: step]

    copy()
    result, output = run()
    if result != "passed":
        print(output)
        print("the tests fail without a defect")
        return 1
    missed = []
    for name, places in defects:
        result = seed(name, places)
        print(f"{'caught' if result == 'caught' else result.upper()}: {name}", flush=True)
        if result != "caught":
            missed.append(name)
    print(f"{len(defects) - len(missed)} of {len(defects)} defects were caught")
    return 1 if missed else 0


def check(defects) -> None:
    for name, places in defects:
        for file, old, _ in places:
            count = (ROOT / file).read_text().count(old)
            if count != 1:
                sys.exit(f"{name}: its place is {count} times in {file}")


def copy() -> None:
    # Not what git lists: a bare machine has no git. What a build makes, and has downloaded, stays.
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [name for name in folders if name not in (".git", ".cache", "target", "artifacts")]
        for name in names:
            source = Path(folder, name)
            target = COPY / source.relative_to(ROOT)
            if not target.is_file() or target.read_bytes() != source.read_bytes():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, target)
    for folder, _, names in os.walk(COPY / "crates"):
        for name in names:
            if not (ROOT / Path(folder, name).relative_to(COPY)).is_file():
                Path(folder, name).unlink()


def seed(name: str, places) -> str:
    before = {}
    for file, old, new in places:
        path = COPY / file
        before.setdefault(path, path.read_text())
        text = path.read_text().replace(old, new)
        # A closure where there was a call is called.
        if "(|| ->" in new:
            text = call_closure(text, new)
        if name == "pool: none anywhere":
            text = text.replace("        Err(thrown) => Err(from_exception(thrown)),\n    })\n", "        Err(thrown) => Err(from_exception(thrown)),\n    })()\n")
        path.write_text(text)
    try:
        result, output = run()
    finally:
        for path, text in before.items():
            path.write_text(text)
    if result == "unbuilt":
        print(output)
    return {"passed": "missed", "failed": "caught"}.get(result, result)


def call_closure(text: str, new: str) -> str:
    """Puts `()` behind the parenthesis that closes the one before `||`."""
    at = text.index(new) + new.index("(|| ")
    depth = 0
    for i in range(at, len(text)):
        depth += {"(": 1, ")": -1}.get(text[i], 0)
        if depth == 0:
            return text[: i + 1] + "()" + text[i + 1 :]
    raise ValueError("unbalanced parentheses")


def run() -> tuple[str, str]:
    environment = os.environ | ENVIRONMENT
    cargo = [str(ROOT / "scripts/apple/standin.sh"), "test", "--locked", "--quiet", "-p", "milwright-apple", "--tests", *TARGET]
    build = subprocess.run([*cargo, "--no-run"], env=environment, capture_output=True, text=True)
    if build.returncode != 0:
        return "unbuilt", build.stderr
    skip = [argument for name in SKIPPED for argument in ("--skip", name)]
    try:
        tests = subprocess.run([*cargo, "--", *skip], env=environment, capture_output=True, text=True, errors="replace", timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        return "failed", "timeout"
    complained = "autorelease called without pool" in tests.stderr
    return ("failed" if tests.returncode != 0 or complained else "passed"), tests.stdout + tests.stderr


if __name__ == "__main__":
    sys.exit(main())
