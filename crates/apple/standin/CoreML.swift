// As much of Core ML as MilwrightSwift.swift names, in Swift and for Linux. It proves that the file compiles against
// these declarations, and that it runs; that Apple's are the same, only a Mac can tell.
//
// A model is a text file, one word and its values a line:
//
//   scale K         y = K x, for fp32 of any shape
//   state N         a state `s` of N fp32: s = s + x, y = s
//   fault F         what a prediction does instead; `load` is for loading
//     error         throws, with everything that an NSError has
//     load          the same, when loading
//     late          waits for swift_standin_release_late
//     hang          waits until it is cancelled
//     text          the output is a text
//     missing       there is a name of an output without value

import Foundation

// MARK: - What is alive

private let lock = NSLock()
nonisolated(unsafe) private var alive = 0
nonisolated(unsafe) private var waiting: [CheckedContinuation<Void, Never>] = []
private let arrived = DispatchSemaphore(value: 0)

private func locked<T>(_ body: () -> T) -> T {
    lock.lock()
    defer { lock.unlock() }
    return body()
}

@_cdecl("swift_standin_objects")
public func objects() -> Int64 {
    locked { Int64(alive) }
}

/// Waits until a late prediction waits.
@_cdecl("swift_standin_await_late")
public func awaitLate() {
    arrived.wait()
}

@_cdecl("swift_standin_release_late")
public func releaseLate() {
    let all = locked {
        defer { waiting = [] }
        return waiting
    }
    all.forEach { $0.resume() }
}

/// Everything that is counted.
public class Counted {
    init() { locked { alive += 1 } }
    deinit { locked { alive -= 1 } }
}

// MARK: - Values

public enum MLMultiArrayDataType: Int {
    case float16 = 0x10010
    case float32 = 0x10020
    case double = 0x10040
    case int32 = 0x20020

    var width: Int { (rawValue & 0xff) / 8 }
}

public final class MLMultiArray: Counted {
    public let shape: [NSNumber]
    public let strides: [NSNumber]
    public let dataType: MLMultiArrayDataType
    private let start: UnsafeMutableRawPointer
    private let deallocator: ((UnsafeMutableRawPointer) -> Void)?
    public var count: Int { shape.reduce(1) { $0 * $1.intValue } }

    public init(
        dataPointer: UnsafeMutableRawPointer, shape: [NSNumber], dataType: MLMultiArrayDataType, strides: [NSNumber],
        deallocator: ((UnsafeMutableRawPointer) -> Void)? = nil
    ) throws {
        guard !shape.isEmpty else { throw coreML("an array needs a dimension") }
        (self.shape, self.strides, self.dataType) = (shape, strides, dataType)
        (self.start, self.deallocator) = (dataPointer, deallocator)
        super.init()
    }

    public init(shape: [NSNumber], dataType: MLMultiArrayDataType) throws {
        var strides: [NSNumber] = []
        var step = 1
        for size in shape.reversed() {
            strides.insert(NSNumber(value: step), at: 0)
            step *= size.intValue
        }
        (self.shape, self.strides, self.dataType) = (shape, strides, dataType)
        start = UnsafeMutableRawPointer.allocate(byteCount: max(step * dataType.width, 1), alignment: 16)
        start.initializeMemory(as: UInt8.self, repeating: 0, count: step * dataType.width)
        deallocator = { $0.deallocate() }
        super.init()
    }

    public convenience init<Scalar>(_ array: MLShapedArray<Scalar>) {
        try! self.init(shape: array.shape.map { NSNumber(value: $0) }, dataType: Scalar.dataType)
        let bytes = start.assumingMemoryBound(to: Scalar.self)
        for (i, scalar) in array.scalars.enumerated() { bytes[i] = scalar }
    }

    deinit { deallocator?(start) }

    private var span: Int {
        count == 0 ? 0 : zip(shape, strides).reduce(1) { $0 + ($1.0.intValue - 1) * $1.1.intValue } * dataType.width
    }

    public func withUnsafeBytes<R>(_ body: (UnsafeRawBufferPointer) throws -> R) rethrows -> R {
        try body(UnsafeRawBufferPointer(start: start, count: span))
    }

    public func withUnsafeMutableBytes<R>(_ body: (UnsafeMutableRawBufferPointer, [Int]) throws -> R) rethrows -> R {
        try body(UnsafeMutableRawBufferPointer(start: start, count: span), strides.map { $0.intValue })
    }

    /// The elements in order.
    func elements<Scalar>(of: Scalar.Type) -> [Scalar] {
        (0..<count).map { index in
            var (rest, at) = (index, 0)
            for (size, stride) in zip(shape, strides).reversed() {
                at += rest % size.intValue * stride.intValue
                rest /= size.intValue
            }
            return start.load(fromByteOffset: at * dataType.width, as: Scalar.self)
        }
    }
}

public final class MLFeatureValue: Counted {
    public let multiArrayValue: MLMultiArray?

    public init(multiArray: MLMultiArray) {
        multiArrayValue = multiArray
        super.init()
    }

    public init(string: String) {
        multiArrayValue = nil
        super.init()
    }
}

public protocol MLFeatureProvider: AnyObject {
    var featureNames: Set<String> { get }
    func featureValue(for featureName: String) -> MLFeatureValue?
}

public final class MLDictionaryFeatureProvider: Counted, MLFeatureProvider {
    private let values: [String: MLFeatureValue]
    private let extra: Set<String>
    public var featureNames: Set<String> { Set(values.keys).union(extra) }

    public init(dictionary: [String: Any]) throws {
        values = try dictionary.mapValues { value in
            guard let value = value as? MLFeatureValue else { throw coreML("a value of another kind") }
            return value
        }
        extra = []
        super.init()
    }

    init(_ values: [String: MLFeatureValue], _ extra: Set<String>) {
        (self.values, self.extra) = (values, extra)
        super.init()
    }

    public func featureValue(for featureName: String) -> MLFeatureValue? {
        values[featureName]
    }
}

public protocol MLShapedArrayScalar {
    static var dataType: MLMultiArrayDataType { get }
}
public protocol MLTensorScalar {}
extension Float: MLShapedArrayScalar, MLTensorScalar {
    public static var dataType: MLMultiArrayDataType { .float32 }
}
extension Int32: MLShapedArrayScalar, MLTensorScalar {
    public static var dataType: MLMultiArrayDataType { .int32 }
}

public struct MLShapedArray<Scalar: MLShapedArrayScalar> {
    public let shape: [Int]
    public let scalars: [Scalar]

    public init(_ array: MLMultiArray) {
        shape = array.shape.map { $0.intValue }
        scalars = array.elements(of: Scalar.self)
    }
}

public struct MLTensor {
    let array: MLMultiArray
    public var scalarType: any MLTensorScalar.Type { array.dataType == .int32 ? Int32.self : Float.self }

    public init<Scalar: MLTensorScalar & MLShapedArrayScalar>(_ array: MLShapedArray<Scalar>) {
        self.array = MLMultiArray(array)
    }

    init(array: MLMultiArray) {
        self.array = array
    }

    public func cast(to: any MLTensorScalar.Type) -> MLTensor {
        self
    }

    public func shapedArray<Scalar: MLTensorScalar & MLShapedArrayScalar>(of: Scalar.Type) async -> MLShapedArray<
        Scalar
    > {
        MLShapedArray(array)
    }
}

// MARK: - Models

public enum MLComputeUnits: Int {
    case cpuOnly, cpuAndGPU, all, cpuAndNeuralEngine
}

public struct MLOptimizationHints {
    public enum ReshapeFrequency { case frequent, infrequent }
    public enum SpecializationStrategy { case `default`, fastPrediction }
    public var reshapeFrequency = ReshapeFrequency.frequent
    public var specializationStrategy = SpecializationStrategy.default
}

public final class MLModelConfiguration: Counted {
    public var computeUnits = MLComputeUnits.all
    public var modelDisplayName: String?
    public var functionName: String?
    public var allowLowPrecisionAccumulationOnGPU = false
    public var optimizationHints = MLOptimizationHints()

    public override init() { super.init() }

    var text: String {
        let frequency = optimizationHints.reshapeFrequency == .infrequent ? 1 : 0
        let strategy = optimizationHints.specializationStrategy == .fastPrediction ? 1 : 0
        return
            "\(computeUnits.rawValue) \(functionName ?? "-") \(modelDisplayName ?? "-") "
            + "\(allowLowPrecisionAccumulationOnGPU ? 1 : 0) \(frequency) \(strategy)"
    }
}

public final class MLPredictionOptions: Counted {
    public override init() { super.init() }
}

public final class MLFeatureDescription: Counted {
    override init() { super.init() }
}

public final class MLModelDescription: Counted {
    public let stateDescriptionsByName: [String: MLFeatureDescription]

    init(_ states: [String: MLFeatureDescription]) {
        stateDescriptionsByName = states
        super.init()
    }
}

public final class MLState: Counted {
    let array: MLMultiArray?

    init(_ array: MLMultiArray?) {
        self.array = array
        super.init()
    }

    public func withMultiArray<R>(for stateName: String, _ body: (MLMultiArray) throws -> R) rethrows -> R {
        precondition(stateName == "s")
        return try body(array!)
    }
}

public final class MLModel: Counted {
    private let scale: Float
    private let state: Int?
    private let fault: String
    public let modelDescription: MLModelDescription

    public static func load(contentsOf url: URL, configuration: MLModelConfiguration) async throws -> MLModel {
        guard let text = try? String(contentsOf: url, encoding: .utf8) else {
            throw coreML("not a model: \(url.path)")
        }
        var values: [String: String] = [:]
        for line in text.split(separator: "\n") {
            let words = line.split(separator: " ", maxSplits: 1)
            values[String(words[0])] = String(words[1])
        }
        if values["fault"] == "load" { throw coreML("a fault of the test") }
        if let wanted = values["configuration"], wanted != configuration.text { throw coreML(configuration.text) }
        return MLModel(values)
    }

    private init(_ values: [String: String]) {
        scale = values["scale"].flatMap { Float($0) } ?? 1
        state = values["state"].flatMap { Int($0) }
        fault = values["fault"] ?? ""
        modelDescription = MLModelDescription(state == nil ? [:] : ["s": MLFeatureDescription()])
        super.init()
    }

    public func makeState() -> MLState {
        MLState(state.map { try! MLMultiArray(shape: [NSNumber(value: $0)], dataType: .float32) })
    }

    public func prediction(from input: MLFeatureProvider, options: MLPredictionOptions) async throws
        -> MLFeatureProvider
    {
        try await predict(input, nil)
    }

    public func prediction(from input: MLFeatureProvider, using state: MLState, options: MLPredictionOptions)
        async throws -> MLFeatureProvider
    {
        try await predict(input, state)
    }

    public func prediction(from input: [String: MLTensor]) async throws -> [String: MLTensor] {
        try await predict(input, nil)
    }

    public func prediction(from input: [String: MLTensor], using state: MLState) async throws -> [String: MLTensor] {
        try await predict(input, state)
    }

    private func predict(_ input: [String: MLTensor], _ state: MLState?) async throws -> [String: MLTensor] {
        let values = input.mapValues { MLFeatureValue(multiArray: $0.array) }
        let result = try await predict(MLDictionaryFeatureProvider(values, []), state)
        return result.featureNames.reduce(into: [:]) { outputs, name in
            outputs[name] = result.featureValue(for: name)?.multiArrayValue.map { MLTensor(array: $0) }
        }
    }

    private func predict(_ input: MLFeatureProvider, _ state: MLState?) async throws -> MLFeatureProvider {
        switch fault {
        case "error": throw coreML("a fault of the test")
        case "late":
            await withCheckedContinuation { continuation in
                locked { waiting.append(continuation) }
                arrived.signal()
            }
        case "hang":
            arrived.signal()
            while !Task.isCancelled { await Task.yield() }
            throw CancellationError()
        case "text": return MLDictionaryFeatureProvider(["y": MLFeatureValue(string: "y")], [])
        case "missing": return MLDictionaryFeatureProvider([:], ["y"])
        default: break
        }
        guard let x = input.featureValue(for: "x")?.multiArrayValue else { throw coreML("there is no input x") }
        guard x.dataType == .float32 else { throw coreML("x is fp32") }
        guard input.featureNames.count == 1 else { throw coreML("there is an unknown input") }
        let y = try MLMultiArray(shape: x.shape, dataType: .float32)
        let values = x.elements(of: Float.self)
        y.withUnsafeMutableBytes { bytes, _ in
            let y = bytes.bindMemory(to: Float.self)
            guard let state, let array = state.array else {
                for (i, value) in values.enumerated() { y[i] = scale * value }
                return
            }
            array.withUnsafeMutableBytes { bytes, _ in
                let s = bytes.bindMemory(to: Float.self)
                for (i, value) in values.enumerated() {
                    s[i] += value
                    y[i] = s[i]
                }
            }
        }
        return MLDictionaryFeatureProvider(["y": MLFeatureValue(multiArray: y)], [])
    }
}

private func coreML(_ message: String) -> NSError {
    let info = [
        NSLocalizedDescriptionKey: message, NSLocalizedFailureReasonErrorKey: "because the test says so",
        NSLocalizedRecoverySuggestionErrorKey: "change the test",
    ]
    return NSError(domain: "com.apple.CoreML", code: 3, userInfo: info)
}

// MARK: - Devices

public final class MLNeuralEngineComputeDevice {
    public let totalCoreCount = 16
}
public final class MLCPUComputeDevice {}
public final class MLGPUComputeDevice {}

public enum MLComputeDevice {
    case cpu(MLCPUComputeDevice)
    case gpu(MLGPUComputeDevice)
    case neuralEngine(MLNeuralEngineComputeDevice)

    public static var allComputeDevices: [MLComputeDevice] {
        [.cpu(MLCPUComputeDevice()), .gpu(MLGPUComputeDevice()), .neuralEngine(MLNeuralEngineComputeDevice())]
    }
}
