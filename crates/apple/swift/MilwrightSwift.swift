// What only Swift offers of Core ML, behind the C functions of milwright_swift.h, which says who owns what.
//
// Every task ends in the one call of its callback, whatever is thrown on the way. Nothing here traps on what a caller
// can get wrong, but for objects that are none. What is called from outside runs in an autorelease pool of its own;
// tasks are given one by Swift.

import CMilwright
import CoreML
import Foundation

@_cdecl("milwright_swift_abi")
public func abi() -> Int32 {
    MILWRIGHT_SWIFT_ABI
}

@_cdecl("milwright_swift_devices")
public func devices(_ devices: UnsafeMutablePointer<milwright_swift_device>?, _ capacity: Int64) -> Int64 {
    pooled {
        guard #available(macOS 14, iOS 17, *) else { return -1 }
        let all = MLComputeDevice.allComputeDevices
        if let devices, capacity > 0 {
            for (i, device) in all.prefix(Int(capacity)).enumerated() {
                devices[i] = described(device)
            }
        }
        return Int64(all.count)
    }
}

@available(macOS 14, iOS 17, *)
private func described(_ device: MLComputeDevice) -> milwright_swift_device {
    switch device {
    case .cpu: return milwright_swift_device(kind: MILWRIGHT_SWIFT_CPU, cores: 0)
    case .gpu: return milwright_swift_device(kind: MILWRIGHT_SWIFT_GPU, cores: 0)
    case .neuralEngine(let engine):
        return milwright_swift_device(kind: MILWRIGHT_SWIFT_NEURAL_ENGINE, cores: Int64(engine.totalCoreCount))
    @unknown default: return milwright_swift_device(kind: 0, cores: 0)
    }
}

// MARK: - Loading

@_cdecl("milwright_swift_load")
public func load(
    _ path: UnsafePointer<CChar>, _ configuration: UnsafePointer<milwright_swift_configuration>, _ context: UInt64,
    _ done: @escaping milwright_swift_loaded
) {
    pooled {
        let url = URL(fileURLWithPath: String(cString: path))
        let configuration = Result { try made(configuration.pointee) }
        guard #available(macOS 12, iOS 15, *) else {
            withError(unsupported("loading a model from Swift", "macOS 12")) { done(context, nil, $0) }
            return
        }
        Task {
            do {
                let model = try await MLModel.load(contentsOf: url, configuration: configuration.get())
                done(context, Unmanaged.passRetained(model).toOpaque(), nil)
            } catch {
                withError(error) { done(context, nil, $0) }
            }
        }
    }
}

private func made(_ wanted: milwright_swift_configuration) throws -> MLModelConfiguration {
    let configuration = MLModelConfiguration()
    switch wanted.compute_units {
    case 0: configuration.computeUnits = .cpuOnly
    case 1: configuration.computeUnits = .cpuAndGPU
    case 2: configuration.computeUnits = .all
    case 3:
        guard #available(macOS 13, iOS 16, *) else { throw unsupported("choosing the Neural Engine", "macOS 13") }
        configuration.computeUnits = .cpuAndNeuralEngine
    default: throw failure(MILWRIGHT_SWIFT_INVALID, "there are no compute units \(wanted.compute_units)")
    }
    configuration.allowLowPrecisionAccumulationOnGPU = wanted.low_precision_accumulation != 0
    if let name = wanted.display_name {
        configuration.modelDisplayName = String(cString: name)
    }
    if let function = wanted.function {
        guard #available(macOS 15, iOS 18, *) else { throw unsupported("choosing a function", "macOS 15") }
        configuration.functionName = String(cString: function)
    }
    if wanted.reshapes >= 0 || wanted.specialization >= 0 {
        guard #available(macOS 15, iOS 18, *) else { throw unsupported("optimization hints", "macOS 15") }
        configuration.optimizationHints.reshapeFrequency = wanted.reshapes == 1 ? .infrequent : .frequent
        configuration.optimizationHints.specializationStrategy =
            wanted.specialization == 1 ? .fastPrediction : .default
    }
    return configuration
}

// MARK: - States

/// A state, and the model that it is of: with another one Core ML stops the process.
@available(macOS 15, iOS 18, *)
private final class State {
    let model: MLModel
    let state: MLState

    init(of model: MLModel) {
        self.model = model
        state = model.makeState()
    }
}

@_cdecl("milwright_swift_new_state")
public func newState(_ model: UnsafeMutableRawPointer, _ context: UInt64, _ done: milwright_swift_loaded) {
    pooled {
        guard #available(macOS 15, iOS 18, *) else {
            withError(unsupported("a state", "macOS 15")) { done(context, nil, $0) }
            return
        }
        let state = State(of: borrowed(model))
        done(context, Unmanaged.passRetained(state).toOpaque(), nil)
    }
}

@_cdecl("milwright_swift_access_state")
public func accessState(
    _ state: UnsafeMutableRawPointer, _ name: UnsafePointer<CChar>, _ context: UInt64,
    _ access: milwright_swift_accessed
) {
    pooled {
        guard #available(macOS 15, iOS 18, *) else {
            withError(unsupported("a state", "macOS 15")) { access(context, nil, $0) }
            return
        }
        let (state, name): (State, String) = (borrowed(state), String(cString: name))
        // Core ML stops the process for a name that it does not know.
        guard state.model.modelDescription.stateDescriptionsByName[name] != nil else {
            withError(failure(MILWRIGHT_SWIFT_INVALID, "there is no state `\(name)`")) { access(context, nil, $0) }
            return
        }
        state.state.withMultiArray(for: name) { array in
            array.withUnsafeMutableBytes { bytes, strides in
                withTensor(name, array, strides, UnsafeRawBufferPointer(bytes)) { tensor in
                    withUnsafePointer(to: tensor) { access(context, $0, nil) }
                }
            }
        }
    }
}

// MARK: - Predicting

@_cdecl("milwright_swift_predict")
public func predict(
    _ model: UnsafeMutableRawPointer, _ state: UnsafeMutableRawPointer?,
    _ inputs: UnsafePointer<milwright_swift_tensor>?, _ count: Int64, _ tensors: Int32, _ context: UInt64,
    _ done: @escaping milwright_swift_predicted, _ release: @escaping milwright_swift_owner_release
) -> UnsafeMutableRawPointer {
    pooled {
        let model: MLModel = borrowed(model)
        let state: AnyObject? = state.map { borrowed($0) }
        let given = UnsafeBufferPointer(start: inputs, count: inputs == nil ? 0 : Int(max(count, 0)))
        // All of them first, so that each is released when one of them is refused.
        let owners = given.map { Owner($0.owner, release) }
        let arrays = Result { try zip(given, owners).map { (String(cString: $0.name), try array($0, $1)) } }
        let task = Task {
            do {
                try Task.checkCancellation()
                let outputs = try await run(model, state, arrays.get(), tensors: tensors != 0)
                withTensors(outputs[...]) { done(context, $0, Int64(outputs.count), nil) }
            } catch {
                withError(error) { done(context, nil, 0, $0) }
            }
        }
        return Unmanaged.passRetained(Running(task)).toOpaque()
    }
}

@_cdecl("milwright_swift_cancel")
public func cancel(_ task: UnsafeMutableRawPointer) {
    pooled {
        let running: Running = borrowed(task)
        running.task.cancel()
    }
}

/// A prediction under way.
private final class Running {
    let task: Task<Void, Never>

    init(_ task: Task<Void, Never>) {
        self.task = task
    }
}

/// The caller's memory of an input: given back when the last one that needs it lets go.
private final class Owner {
    private let owner: UInt64
    private let release: milwright_swift_owner_release

    init(_ owner: UInt64, _ release: @escaping milwright_swift_owner_release) {
        self.owner = owner
        self.release = release
    }

    deinit {
        release(owner)
    }
}

private typealias Named = (String, MLMultiArray)

private func run(_ model: MLModel, _ state: AnyObject?, _ inputs: [Named], tensors: Bool) async throws -> [Named] {
    guard #available(macOS 14, iOS 17, *) else { throw unsupported("predicting from Swift", "macOS 14") }
    guard Set(inputs.map { $0.0 }).count == inputs.count else {
        throw failure(MILWRIGHT_SWIFT_INVALID, "two inputs have the same name")
    }
    if tensors {
        guard #available(macOS 15, iOS 18, *) else { throw unsupported("MLTensor", "macOS 15") }
        return try await runTensors(model, state.map { try checked($0, of: model) }, inputs)
    }
    let features = inputs.map { ($0.0, MLFeatureValue(multiArray: $0.1)) }
    let provider = try MLDictionaryFeatureProvider(dictionary: Dictionary(uniqueKeysWithValues: features))
    let options = MLPredictionOptions()
    let result: MLFeatureProvider
    if let state {
        guard #available(macOS 15, iOS 18, *) else { throw unsupported("a state", "macOS 15") }
        let state = try checked(state, of: model)
        result = try await model.prediction(from: provider, using: state, options: options)
    } else {
        result = try await model.prediction(from: provider, options: options)
    }
    return try result.featureNames.sorted().map { name in
        guard let value = result.featureValue(for: name) else {
            throw failure(MILWRIGHT_SWIFT_PROTOCOL, "Core ML gave no value of the output `\(name)`")
        }
        guard let array = value.multiArrayValue else {
            throw failure(MILWRIGHT_SWIFT_UNSUPPORTED, "the output `\(name)` is no array")
        }
        return (name, array)
    }
}

@available(macOS 15, iOS 18, *)
private func checked(_ state: AnyObject, of model: MLModel) throws -> MLState {
    guard let state = state as? State, state.model === model else {
        throw failure(MILWRIGHT_SWIFT_INVALID, "the state is of another model")
    }
    return state.state
}

@available(macOS 15, iOS 18, *)
private func runTensors(_ model: MLModel, _ state: MLState?, _ inputs: [Named]) async throws -> [Named] {
    var tensors: [String: MLTensor] = [:]
    for (name, array) in inputs {
        switch array.dataType {
        case .float32: tensors[name] = MLTensor(MLShapedArray<Float>(array))
        case .int32: tensors[name] = MLTensor(MLShapedArray<Int32>(array))
        default: throw failure(MILWRIGHT_SWIFT_INVALID, "tensors of the type of `\(name)` are not passed on")
        }
    }
    let result: [String: MLTensor]
    if let state {
        result = try await model.prediction(from: tensors, using: state)
    } else {
        result = try await model.prediction(from: tensors)
    }
    var outputs: [Named] = []
    for (name, tensor) in result.sorted(by: { $0.key < $1.key }) {
        if tensor.scalarType == Int32.self {
            outputs.append((name, MLMultiArray(await tensor.shapedArray(of: Int32.self))))
        } else {
            // Whatever else there is, as fp32.
            outputs.append((name, MLMultiArray(await tensor.cast(to: Float.self).shapedArray(of: Float.self))))
        }
    }
    return outputs
}

// MARK: - Values

/// An array over the caller's memory.
private func array(_ tensor: milwright_swift_tensor, _ owner: Owner) throws -> MLMultiArray {
    let name = String(cString: tensor.name)
    // Core ML stops the process for a type that it does not know.
    let types: [MLMultiArrayDataType] = [.float16, .float32, .double, .int32]
    guard let type = types.first(where: { $0.rawValue == Int(tensor.element) }) else {
        throw failure(MILWRIGHT_SWIFT_UNSUPPORTED, "the input `\(name)` is of a type that is not passed on")
    }
    guard let data = tensor.data, let shape = tensor.shape, let strides = tensor.strides else {
        throw failure(MILWRIGHT_SWIFT_INVALID, "the input `\(name)` is no array")
    }
    let rank = Int(max(tensor.rank, 0))
    let sizes = Array(UnsafeBufferPointer(start: shape, count: rank))
    let steps = Array(UnsafeBufferPointer(start: strides, count: rank))
    // The low byte is the width in bits.
    let width = Int64(tensor.element & 0xff) / 8
    guard let span = span(sizes, steps, width), span <= tensor.bytes else {
        throw failure(MILWRIGHT_SWIFT_INVALID, "the input `\(name)` does not lie within its memory")
    }
    return try MLMultiArray(
        dataPointer: data, shape: sizes.map { NSNumber(value: $0) }, dataType: type,
        strides: steps.map { NSNumber(value: $0) }, deallocator: { _ in withExtendedLifetime(owner) {} })
}

/// Bytes from the first element to the end of the last; none if there is something negative or too large.
private func span(_ shape: [Int64], _ strides: [Int64], _ width: Int64) -> Int64? {
    guard shape.allSatisfy({ $0 >= 0 }), strides.allSatisfy({ $0 >= 0 }) else { return nil }
    if shape.contains(0) { return 0 }
    var last: Int64 = 0
    for (size, stride) in zip(shape, strides) {
        let (reach, tooFar) = (size - 1).multipliedReportingOverflow(by: stride)
        let (sum, tooMuch) = last.addingReportingOverflow(reach)
        if tooFar || tooMuch { return nil }
        last = sum
    }
    let (count, tooMany) = last.addingReportingOverflow(1)
    let (bytes, tooLong) = count.multipliedReportingOverflow(by: width)
    return tooMany || tooLong ? nil : bytes
}

/// Calls with an array as the callbacks take it, which is valid until `body` returns.
private func withTensor<R>(
    _ name: String, _ array: MLMultiArray, _ strides: [Int], _ bytes: UnsafeRawBufferPointer,
    _ body: (milwright_swift_tensor) -> R
) -> R {
    let shape = array.shape.map { $0.int64Value }
    let strides = strides.map { Int64($0) }
    return name.withCString { name in
        shape.withUnsafeBufferPointer { shape in
            strides.withUnsafeBufferPointer { strides in
                body(
                    milwright_swift_tensor(
                        name: name, element: Int32(truncatingIfNeeded: array.dataType.rawValue),
                        rank: Int32(shape.count == strides.count ? shape.count : -1), shape: shape.baseAddress,
                        strides: strides.baseAddress, data: UnsafeMutableRawPointer(mutating: bytes.baseAddress),
                        bytes: Int64(bytes.count), owner: 0))
            }
        }
    }
}

/// Calls with all of them.
private func withTensors(
    _ arrays: ArraySlice<Named>, _ before: [milwright_swift_tensor] = [],
    _ body: (UnsafePointer<milwright_swift_tensor>?) -> Void
) {
    guard let (name, array) = arrays.first else {
        before.withUnsafeBufferPointer { body($0.baseAddress) }
        return
    }
    array.withUnsafeBytes { bytes in
        withTensor(name, array, array.strides.map { $0.intValue }, bytes) { tensor in
            withTensors(arrays.dropFirst(), before + [tensor], body)
        }
    }
}

// MARK: - Objects and errors

/// Runs in an autorelease pool of its own: the caller's thread may have none.
private func pooled<T>(_ body: () -> T) -> T {
    #if canImport(ObjectiveC)
        return autoreleasepool(invoking: body)
    #else
        return body()
    #endif
}

/// The object of a reference that stays with the caller.
private func borrowed<T: AnyObject>(_ object: UnsafeMutableRawPointer) -> T {
    Unmanaged<T>.fromOpaque(object).takeUnretainedValue()
}

@_cdecl("milwright_swift_release")
public func release(_ object: UnsafeMutableRawPointer) {
    pooled {
        Unmanaged<AnyObject>.fromOpaque(object).release()
    }
}

private func failure(_ code: Int32, _ message: String) -> NSError {
    NSError(domain: MILWRIGHT_SWIFT_DOMAIN, code: Int(code), userInfo: [NSLocalizedDescriptionKey: message])
}

private func unsupported(_ what: String, _ since: String) -> NSError {
    failure(MILWRIGHT_SWIFT_UNSUPPORTED, "\(what) needs \(since) or newer")
}

/// Calls with an error as the callbacks take it, which is valid until `body` returns.
private func withError(_ thrown: Error, _ body: (UnsafePointer<milwright_swift_error>) -> Void) {
    let error =
        thrown is CancellationError
        ? failure(MILWRIGHT_SWIFT_CANCELLED, "the prediction was cancelled") : thrown as NSError
    withText(error.localizedFailureReason) { reason in
        withText(error.localizedRecoverySuggestion) { recovery in
            error.domain.withCString { domain in
                error.localizedDescription.withCString { message in
                    let error = milwright_swift_error(
                        domain: domain, code: Int64(error.code), message: message, reason: reason,
                        recovery: recovery)
                    withUnsafePointer(to: error, body)
                }
            }
        }
    }
}

private func withText(_ text: String?, _ body: (UnsafePointer<CChar>?) -> Void) {
    guard let text else { return body(nil) }
    text.withCString { body($0) }
}
