#!/usr/bin/env python3
"""Seeds defects into a copy of the bridge, one at a time: the tests have to catch every one.

Usage: defects.py [--part I/N] [NAME...]
       defects.py --races

Each defect replaces a piece of text that has to be there exactly once, so that a change of the bridge cannot quietly
switch one off. A defect counts as caught when the crate builds and its tests fail. Races are for loom and ThreadSanitizer,
whose standard library scripts/apple_evidence.sh builds (its step `threads`).
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COPY = ROOT / ".cache/apple/defects"
# The random faults find them, too, but slowly.
SKIPPED = ["a_core_ml_that_fails_at_random"]
TIMEOUT = 120

MOD, EDGE, CONVERT, FEATURE, IMAGE, DESCRIBE, MODEL, STATE, PLAN = (
    f"crates/apple/src/bridge/{name}.rs"
    for name in ("mod", "edge", "convert", "feature", "image", "describe", "model", "state", "plan")
)
FLIGHT, ARRAY, ERROR, TYPES = (f"crates/apple/src/{name}.rs" for name in ("flight", "array", "error", "types"))
SWIFT = "crates/apple/src/swift"
CALL, SWIFT_MODEL, SWIFT_TABLE, TENSOR = (f"{SWIFT}/{name}.rs" for name in ("call", "model", "table", "tensor"))

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
    ("leak: one number", CONVERT, ".map(|n| NSNumber::new_usize(*n)).collect();",
     ".map(|n| { let n = NSNumber::new_usize(*n); std::mem::forget(n.clone()); n }).collect();"),
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
    ("swap: 64 bits of a size", CONVERT, "NSNumber::new_usize(*n)", "NSNumber::new_i32(*n as i32)"),
    ("swap: no bound in 32 bits", CONVERT, "i32::MAX as usize - 1", "isize::MAX as usize - 1"),
    ("swap: no bound too soon", CONVERT, "i32::MAX as usize - 1", "i16::MAX as usize"),
    ("swap: the number of an unknown kind", DESCRIBE, "FeatureKind::Unknown(other.0 as i64)", "FeatureKind::Unknown({ let _ = other; 0 })"),
    ("swap: an unknown element type", DESCRIBE, "FeatureKind::Array { element: element_type(data_type), shape, shapes }",
     "FeatureKind::Array { element: element_type(data_type).or(Some(crate::ElementType::Float32)), shape, shapes }"),
    ("swap: an unknown element type of a state", DESCRIBE, "FeatureKind::State { element: element_type(data_type), shape }",
     "FeatureKind::State { element: element_type(data_type).or(Some(crate::ElementType::Float32)), shape }"),
    ("swap: one size is fixed", DESCRIBE, "sizes.iter().all(|size| *size == default)", "sizes.is_empty() && default.0 == 0"),
    ("swap: one shape is fixed", DESCRIBE, "shapes.iter().all(|shape| shape == default)", "shapes.len() == 1"),
    ("swap: numbers of labels", FEATURE, "NSNumber::new_f64(*value)", "NSNumber::new_f32(*value as f32)"),
    ("swap: the alignment of elements", FEATURE, "start.addr().is_multiple_of(array.element().size())", "start.addr().is_multiple_of(4)"),
    ("swap: strides of a copy", FEATURE, "over(array.shape(), array.element(), start, &packed_strides(array.shape()), words)",
     "over(array.shape(), array.element(), start, array.strides(), words)"),
    ("swap: what is copied", FEATURE, "    let packed = array.packed();\n    let mut words",
     "    let packed = array.data().clone();\n    let mut words"),
    ("swap: functions of a plan", PLAN, "    names.sort_by_key(|name| name.to_string());\n", ""),
    ("swap: bits of a cost", PLAN, "unsafe { cost.weight() }", "unsafe { cost.weight() as f32 as f64 }"),
    ("swap: strides of a write", STATE, "            let strides = sizes(strides, \"stride\")?;",
     "            let _ = sizes(strides, \"stride\")?; let strides = layout(state)?.2;"),
    ("swap: the stride of one row", ARRAY, "*n == 1 || want == have", "{ let _ = n; want == have }"),
    ("swap: strides of nothing", ARRAY, "strides[i] * shape[i].max(1)", "strides[i] * shape[i]"),
    ("swap: three dimensions", ARRAY, "            index[d] = 0;", "            index[d] = 0; if d == 1 && shape.len() > 2 { at += 1; }"),
    ("swap: bytes and elements of a backing", ARRAY, "        self.memory.0.len\n", "        self.shape.iter().product()\n"),
    ("swap: the code of a pixel format", TYPES, "*b\"L00h\"", "*b\"L16h\""),
    # An error that is not told, or something else that is lost.
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
    ("dropped: the name of an exception", EDGE, "            None => name,\n", "            None => String::new(),\n"),
    ("dropped: the cause of a cause", EDGE, "const MAX_UNDERLYING: usize = 8", "const MAX_UNDERLYING: usize = 1"),
    ("dropped: the sign of a code", EDGE, "code: e.code() as i64,", "code: e.code() as u8 as i64,"),
    ("dropped: inputs beside an error", FEATURE, "    let provider = provider.ok_or_else",
     "    if error.is_some() { return Err(failed(\"take the inputs\", error)); }\n    let provider = provider.ok_or_else"),
    ("dropped: an array beside an error", FEATURE, "    array.ok_or_else(|| failed(\"make an array\", error))",
     "    if error.is_some() { return Err(failed(\"make an array\", error)); }\n    array.ok_or_else(|| failed(\"make an array\", error))"),
    ("dropped: a dictionary beside an error", FEATURE, "    feature.ok_or_else(|| failed(\"take a dictionary\", error))",
     "    if error.is_some() { return Err(failed(\"take a dictionary\", error)); }\n    feature.ok_or_else(|| failed(\"take a dictionary\", error))"),
    ("dropped: the status of a pixel buffer", IMAGE, "Some(buffer) if status == 0 => Ok", "Some(buffer) => Ok"),
    ("dropped: a model beside an error", MODEL, "            Ok(Model::new(model.ok_or_else",
     "            if error.is_some() { return Err(failed(\"load the model\", error)); }\n            Ok(Model::new(model.ok_or_else"),
    ("dropped: outputs beside an error", MODEL, "                    predictionFromFeatures: &*inputs,\n                    options: &*backed.options,\n                    error: &mut error,\n                ]\n            };\n",
     "                    predictionFromFeatures: &*inputs,\n                    options: &*backed.options,\n                    error: &mut error,\n                ]\n            };\n            if error.is_some() { return Err(failed(\"predict\", error)); }\n"),
    ("dropped: outputs beside an error, with a state", MODEL, "                    usingState: &*state.state,\n                    options: &*backed.options,\n                    error: &mut error,\n                ]\n            };\n",
     "                    usingState: &*state.state,\n                    options: &*backed.options,\n                    error: &mut error,\n                ]\n            };\n            if error.is_some() { return Err(failed(\"predict\", error)); }\n"),
    ("dropped: a batch beside an error", MODEL, "            let results = results.ok_or_else(",
     "            if error.is_some() { return Err(failed(\"predict a batch\", error)); }\n            let results = results.ok_or_else("),
    ("dropped: deep blocks", PLAN, "const MAX_DEPTH: usize = 64", "const MAX_DEPTH: usize = 3"),
    ("dropped: the second block", PLAN, "for block in some(blocks, \"blocks of an operation\")?.iter() {",
     "for block in some(blocks, \"blocks of an operation\")?.iter().take(1) {"),
    ("dropped: the second output", PLAN, "outputs.iter().map(|o| value_name(&o)).collect::<Result<_>>()?",
     "outputs.iter().take(1).map(|o| value_name(&o)).collect::<Result<_>>()?"),
    ("dropped: the source of an error", ERROR, "self.underlying().map(|e| e as _)", "None"),
    # Taken for granted, whatever Core ML or the caller gives.
    ("unchecked: texts", CONVERT, "array.iter().map(|t| text(&t, what)).collect()",
     "{ let _ = what; Ok(array.iter().map(|t| t.to_string()).collect()) }"),
    ("unchecked: sizes", CONVERT, "size(integer(&n, what)?, what)", "size(n.as_i64(), what)"),
    ("unchecked: a range of nothing", CONVERT, "range.length.saturating_sub(1)", "range.length - 1"),
    ("unchecked: a range beyond all numbers", CONVERT, "range.location.saturating_add(range.length.saturating_sub(1))",
     "range.location.wrapping_add(range.length.saturating_sub(1))"),
    ("unchecked: what a maker wrote", DESCRIBE, "    let entries =\n        entries.ok_or_else(|| Error::protocol(\"Core ML gave no dictionary of what a maker wrote\"))?;",
     "    let Some(entries) = entries else { return Ok(BTreeMap::new()) };"),
    ("unchecked: the keys of what a maker wrote", DESCRIBE, "text(&key, \"key of the metadata\")?",
     "text(&key, \"key of the metadata\").unwrap_or_default()"),
    ("unchecked: the values of what a maker wrote", DESCRIBE, "text(&value, \"metadata\")?);", "text(&value, \"metadata\").unwrap_or_default());"),
    ("unchecked: names of features", DESCRIBE, "feature(text(&key, \"names of features\")?, &description)?",
     "feature(key.to_string(), &description)?"),
    ("unchecked: what is thrown", EDGE, "object.and_then(|e| e.downcast_ref::<NSException>()).map(text)",
     "object.map(|e| e.downcast_ref::<NSException>().unwrap()).map(text)"),
    ("unchecked: that something is thrown", EDGE, "thrown.as_deref().map(|e| -> &AnyObject { e.as_ref() })",
     "Some(thrown.as_deref().unwrap()).map(|e| -> &AnyObject { e.as_ref() })"),
    ("unchecked: how deep causes go", EDGE, "underlying.filter(|_| depth < MAX_UNDERLYING)",
     "underlying.filter(|_| { let _ = MAX_UNDERLYING; true })"),
    ("unchecked: that a cause is an error", EDGE, "underlying.as_deref().and_then(|u| u.downcast_ref::<NSError>())",
     "underlying.as_deref().map(|u| unsafe { &*(u as *const AnyObject).cast::<NSError>() })"),
    ("unchecked: numbers of labels", FEATURE, "        integer(&value, \"dictionary\")?;\n", ""),
    ("unchecked: room for a copy", FEATURE, "packed.len().div_ceil(size_of::<u64>())", "packed.len() / size_of::<u64>()"),
    ("unchecked: the type of a sequence", FEATURE, "other => Err(Error::protocol(format!(\"Core ML gave a sequence of the unknown type {}\", other.0))),",
     "_ => Ok(Value::Strings(Vec::new())),"),
    ("unchecked: integers of a sequence", FEATURE, "values.iter().map(|n| integer(&n, \"sequence\")).collect::<Result<_>>()?",
     "values.iter().map(|n| n.as_i64()).collect()"),
    ("unchecked: elements that overlap", FEATURE, "needed <= n && len <= n", "{ let _ = len; needed <= n }"),
    ("unchecked: a negative number of bytes", FEATURE, "let fits = usize::try_from(available).is_ok_and(|n| needed <= n && len <= n);\n        if",
     "let n = available as usize; let fits = needed <= n && len <= n;\n        if"),
    ("unchecked: bytes that are nowhere", FEATURE, "if fits && (!start.is_null() || needed == 0) {", "if fits {"),
    ("unchecked: empty arrays", FEATURE, "if fits && (!start.is_null() || needed == 0) {", "if fits && needed != 0 && !start.is_null() {"),
    ("unchecked: the number of strides", FEATURE, "shape.len() != strides.len() || size(count", "size(count"),
    ("unchecked: names of outputs", FEATURE, "let key = text(&name, \"set of names\")?;", "let key = name.to_string();"),
    ("unchecked: the width of an output", IMAGE, "filter(|row| *row <= row_bytes && *row > 0)", "filter(|row| *row <= row_bytes)"),
    ("unchecked: the height of an output", IMAGE, "height.checked_sub(1)?", "height.saturating_sub(1)"),
    ("unchecked: an image beyond all memory", IMAGE, "    let len = len.filter(|len| isize::try_from(*len).is_ok());\n", ""),
    ("unchecked: the size of an image", IMAGE, ".checked_mul(row_bytes)?.checked_add(row)", ".wrapping_mul(row_bytes).checked_add(row)"),
    ("unchecked: the last row of an image", IMAGE, "height.checked_sub(1)?.checked_mul(row_bytes)?.checked_add(row)",
     "height.checked_mul(row_bytes).filter(|_| row > 0 && height > 0)"),
    ("unchecked: how deep blocks go", PLAN, "const MAX_DEPTH: usize = 64", "const MAX_DEPTH: usize = 150"),
    ("unchecked: classes below that of a device", PLAN, "msg_send![device, isKindOfClass: class]", "msg_send![device, isMemberOfClass: class]"),
    ("unchecked: the shape of a state", STATE, "shape != array.shape() || element != array.element()", "element != array.element()"),
    ("unchecked: the element type of a state", STATE, "shape != array.shape() || element != array.element()", "shape != array.shape()"),
    ("unchecked: bytes of a state that are nowhere", STATE, "NonNull::new(start.cast::<u8>()).filter(|_| fits)",
     "Some(unsafe { NonNull::new_unchecked(start.cast::<u8>()) }).filter(|_| fits)"),
    ("unchecked: a negative number of bytes of a state", STATE, "usize::try_from(available).is_ok_and(|n| needed <= n)",
     "needed <= available as usize"),
    ("unchecked: too many bytes", ARRAY, "if data.len() != expected {", "if data.len() < expected {"),
    ("unchecked: bytes behind an array", ARRAY, "return self.data.slice(..len);", "let _ = len; return self.data.clone();"),
    ("unchecked: a size with a zero", ARRAY, "n.checked_mul((*d).max(1))", "n.checked_mul(*d)"),
    ("unchecked: a size beyond all memory", ARRAY, "        .try_fold(element.size(), |n, d| n.checked_mul((*d).max(1)))\n        .filter(|n| isize::try_from(*n).is_ok())",
     "        .try_fold(element.size(), |n, d| n.checked_mul((*d).max(1)))"),
    ("unchecked: a size that overflows to nothing", ARRAY, "n.checked_mul((*d).max(1)))", "Some(n.wrapping_mul((*d).max(1))))"),
    ("unchecked: the strides of nothing", ARRAY, "    if shape.contains(&0) {\n        return Ok(0);\n    }\n    shape", "    shape"),
    ("unchecked: the bytes of strides", ARRAY, ".and_then(|n| n.checked_mul(element.size()))", ".map(|n| n.wrapping_mul(element.size()))"),
    ("unchecked: strides that overflow", ARRAY, "n.checked_add((d - 1).checked_mul(*s)?)", "n.checked_add((d - 1).wrapping_mul(*s))"),
    ("unchecked: the size of a strided array", ARRAY, "    packed_len(element, shape)?;\n    if shape.len()", "    if shape.len()"),
    ("unchecked: the elements of nothing", ARRAY, "    if shape.contains(&0) {\n        return;\n    }\n    let mut index", "    let mut index"),
    ("unchecked: the alignment of a backing", ARRAY, "start.addr().is_multiple_of(element.size())",
     "start.addr().is_multiple_of(element.size().min(2))"),
    ("unchecked: room for a backing", ARRAY, "packed_len(element, shape)?.div_ceil(size_of::<u64>())",
     "packed_len(element, shape)? / size_of::<u64>()"),
    # A system that lacks it.
    ("older: states of a description", DESCRIBE, "responds(model, sel!(stateDescriptionsByName))", "{ let _ = sel!(stateDescriptionsByName); true }"),
    ("older: labels of a description", DESCRIBE, "responds(model, sel!(classLabels))", "{ let _ = sel!(classLabels); true }"),
    ("older: no backings", FEATURE, "    if !entries.is_empty() {\n", "    {\n"),
    ("older: asynchronous predictions with a state", MODEL, "Some(_) => sel!(predictionFromFeatures:usingState:options:completionHandler:),",
     "Some(_) => sel!(predictionFromFeatures:options:completionHandler:),"),
    ("older: display names", MODEL, "        && responds(&*configuration, sel!(setModelDisplayName:))\n", ""),
    # More threads than one.
    ("shared: a state", EDGE, "// SAFETY: as for MLModel; everything",
     "unsafe impl Sync for Held<MLState> {}\n// SAFETY: as for MLModel; everything"),
    ("shared: a model", EDGE, "// SAFETY: as for MLModel; everything",
     "unsafe impl Sync for Held<MLModel> {}\n// SAFETY: as for MLModel; everything"),
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
    ("twice: the memory of an input is let go of at once", FEATURE, "return over(array.shape(), array.element(), start, array.strides(), data);",
     "return over(array.shape(), array.element(), start, array.strides(), ());"),
    ("twice: a panic of who is refused unwinds", MODEL, "    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| done(Err(e))));",
     "    done(Err(e));"),
    ("twice: an exception unwinds through a block", STATE, "result.set(Some(enter(|| call(array))));", "result.set(Some(call(array)));"),
    ("twice: a reason is told", ERROR, ".filter(|reason| !self.message.contains(reason))", ""),
    # The Rust side of the Swift bridge, which scripts/apple/swift.sh tests.
    ("swift: what was not answered is kept", CALL, "    drop(table.take(context));\n", ""),
    ("swift: numbers that are given twice", SWIFT_TABLE, "        *last += 1;\n        entries", "        *last = entries.len() as u64;\n        entries"),
    ("swift: an object that nobody waits for leaks", CALL, "        let object = unsafe { Handle::own(object) };\n        let Some(done) = LOADED.take(context) else { return };",
     "        let Some(done) = LOADED.take(context) else { return };\n        let object = unsafe { Handle::own(object) };"),
    ("swift: a panic unwinds", CALL, "    let _ = catch_unwind(AssertUnwindSafe(call));",
     "    let _ = catch_unwind::<fn(), ()>; let _ = AssertUnwindSafe(0); call();"),
    ("swift: errors of Core ML's are taken for ours", CALL, "        _ if domain.as_deref() != Some(MILWRIGHT_SWIFT_DOMAIN) => None,",
     "        _ if domain.as_deref() == Some(\"\") && MILWRIGHT_SWIFT_DOMAIN.is_empty() => None,"),
    ("swift: another version", SWIFT_MODEL, "        MILWRIGHT_SWIFT_ABI => Ok(()),", "        MILWRIGHT_SWIFT_ABI.. => Ok(()),"),
    ("swift: another version loads", SWIFT_MODEL, "        let texts = || {\n            availability()?;", "        let texts = || {"),
    ("swift: another version has devices", SWIFT_MODEL, "    availability()?;\n    let mut found", "    let mut found"),
    ("swift: an older system has no devices", SWIFT_MODEL, "    let count = usize::try_from(count)\n        .map_err(|_| Error::new(ErrorKind::Unsupported, \"listing compute devices needs macOS 14 or newer\"))?;",
     "    let count = usize::try_from(count).unwrap_or_default();"),
    ("swift: more devices than there is room for", SWIFT_MODEL, "found[..count.min(MAX)]", "found[..count]"),
    ("swift: an unknown device", SWIFT_MODEL, "        _ => Device::Other(\"unknown\".into()),", "        _ => Device::Cpu,"),
    ("swift: hints of reshapes that nobody wants", SWIFT_MODEL, "reshapes: hints.map_or(-1,", "reshapes: hints.map_or(0,"),
    ("swift: hints of specialization that nobody wants", SWIFT_MODEL, "specialization: hints.map_or(-1,", "specialization: hints.map_or(0,"),
    ("swift: frequent reshapes", SWIFT_MODEL, "                Reshapes::Frequent => 0,", "                Reshapes::Frequent => -1,"),
    ("swift: the model is busy in its handler", SWIFT_MODEL, "            drop(held);\n            done(result);",
     "            done(result);\n            drop(held);"),
    ("swift: the other route", SWIFT_MODEL, "i32::from(route == Route::Tensors)", "i32::from(route == Route::Arrays)"),
    ("swift: arrays only", SWIFT_MODEL, "i32::from(route == Route::Tensors)", "{ let _ = route; 0 }"),
    ("swift: the number of fp16", TENSOR, "ElementType::Float16 => 0x1_0010", "ElementType::Float16 => 0x1_0011"),
    ("swift: the number of fp64", TENSOR, "ElementType::Float64 => 0x1_0040", "ElementType::Float64 => 0x2_0040"),
    ("swift: int8 for int32", TENSOR, "ElementType::Int8 => 0x2_0008,\n        ElementType::Int32 => 0x2_0020",
     "ElementType::Int8 => 0x2_0020,\n        ElementType::Int32 => 0x2_0008"),
    ("swift: more bytes than there are", TENSOR, "bytes: input.len as i64", "bytes: input.len as i64 + 8"),
    ("swift: fewer bytes than there are", TENSOR, "bytes: input.len as i64", "bytes: input.len as i64 - 1"),
    ("swift: memory that is not aligned", TENSOR, "start.addr().is_multiple_of(array.element().size())", "start.addr().is_multiple_of(1)"),
    ("swift: memory that is aligned to four bytes", TENSOR, "start.addr().is_multiple_of(array.element().size())", "start.addr().is_multiple_of(4)"),
    ("swift: strides of a copy", TENSOR, "        let strides = packed_strides(array.shape());\n",
     "        let strides = array.strides().to_vec();\n"),
    ("swift: what is copied", TENSOR, "        let packed = array.packed();\n        let words",
     "        let packed = array.data().clone();\n        let words"),
    ("swift: a copy is let go of at once", TENSOR, "strides, owner: Box::new(words) }", "strides, owner: Box::new(()) }"),
    ("swift: the last bytes of a copy", TENSOR, "            .chunks(size_of::<u64>())\n", "            .chunks_exact(size_of::<u64>())\n"),
    ("swift: a negative number of dimensions", TENSOR, "usize::try_from(tensor.rank).ok().filter(|_| tensor.rank <= MAX_RANK)",
     "Some(tensor.rank as usize).filter(|_| tensor.rank <= MAX_RANK)"),
    ("swift: less memory than the strides need", TENSOR, "needed <= *n && packed <= *n", "packed <= *n"),
    ("swift: a negative number of bytes", TENSOR, "usize::try_from(tensor.bytes).ok()", "Some(tensor.bytes as usize)"),
    ("swift: bytes that are nowhere", TENSOR, " || tensor.data.is_null() && needed > 0", ""),
    ("swift: empty outputs", TENSOR, "tensor.data.is_null() && needed > 0", "tensor.data.is_null()"),
    ("swift: the element type of a state", TENSOR, "shape != array.shape() || element != array.element()", "shape != array.shape()"),
    ("swift: strides of a write", TENSOR, "scatter(&array.packed(), self.data, element.size(), &shape, &self.strides)",
     "scatter(&array.packed(), self.data, element.size(), &shape, &packed_strides(&shape))"),
    ("swift: strides of a read", TENSOR, "gather(self.data, self.element.size(), &self.shape, &self.strides)",
     "gather(self.data, self.element.size(), &self.shape, &packed_strides(&self.shape))"),
    ("swift: any number of dimensions", TENSOR, ".filter(|_| tensor.rank <= MAX_RANK)",
     ".filter(|_| MAX_RANK > 0)"),
    ("swift: negative sizes", TENSOR, "usize::try_from(*n).map_err(|_| bad(&format!(\"{n} in its shape\")))",
     "Ok::<_, Error>(n.unsigned_abs() as usize)"),
    ("swift: elements that overlap", TENSOR, "needed <= *n && packed <= *n",
     "{ let _ = packed; needed <= *n }"),
    ("swift: gaps of what is written", TENSOR, "scatter(&array.packed(),",
     "scatter(array.data(),"),
]

# Only ThreadSanitizer and loom see that nothing keeps the threads apart.
RACES = [
    ("race: a claim that sees nothing of what was before it", FLIGHT, "self.0.swap(true, Ordering::Acquire)",
     "self.0.swap(true, Ordering::Relaxed)"),
    ("race: a pass that shows nothing of what was done", FLIGHT, "self.0.0.store(false, Ordering::Release)",
     "self.0.0.store(false, Ordering::Relaxed)"),
    ("race: a claim in two steps", FLIGHT, "self.0.swap(true, Ordering::Acquire)",
     "{ let was = self.0.load(Ordering::Acquire); self.0.store(true, Ordering::Release); was }"),
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
LOOM = ["cargo", "test", "--locked", "--quiet", "-p", "milwright-apple", "--lib", "loom", "--target-dir", str(ROOT / "target/loom")]
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
    for swift in sorted({is_swift(places) for _, places in defects}):
        result, output = run(swift)
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
    for folder, _, names in os.walk(COPY / "crates", topdown=False):
        for name in names:
            if not (ROOT / Path(folder, name).relative_to(COPY)).is_file():
                Path(folder, name).unlink()
        if not (ROOT / Path(folder).relative_to(COPY)).is_dir():
            Path(folder).rmdir()


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
        result, output = run(is_swift(places))
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


def is_swift(places) -> bool:
    return any(file.startswith(SWIFT) for file, _, _ in places)


def run(swift: bool) -> tuple[str, str]:
    environment = os.environ | ENVIRONMENT
    if swift:
        result, output = ended([str(COPY / "scripts/apple/swift.sh"), "--no-backend", "--no-valgrind"], environment)
        return ("unbuilt" if "could not compile" in output else result), output
    cargo = [str(ROOT / "scripts/apple/standin.sh"), "test", "--locked", "--quiet", "-p", "milwright-apple", "--tests", *TARGET]
    build = subprocess.run([*cargo, "--no-run"], env=environment, capture_output=True, text=True)
    if build.returncode != 0:
        return "unbuilt", build.stderr
    skip = [argument for name in SKIPPED for argument in ("--skip", name)]
    result, output = ended([*cargo, "--", *skip], environment)
    if TARGET and result == "passed":
        result, output = ended([*LOOM, "--manifest-path", str(COPY / "Cargo.toml")], os.environ | {"RUSTFLAGS": "--cfg loom"})
    return ("failed" if "autorelease called without pool" in output else result), output


def ended(command, environment) -> tuple[str, str]:
    """Runs tests in a group of their own, so that those that hang end with it."""
    tests = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                             errors="replace", start_new_session=True)
    try:
        output, _ = tests.communicate(timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        os.killpg(tests.pid, signal.SIGKILL)
        tests.communicate()
        return "failed", "timeout"
    return ("failed" if tests.returncode != 0 else "passed"), output


if __name__ == "__main__":
    sys.exit(main())
