//! Devices, and the device on which Core ML plans to run each op.

use std::path::Path;

use objc2::runtime::{AnyClass, AnyObject, ProtocolObject};
use objc2::{msg_send, sel};
use objc2_core_ml::{
    MLComputeDeviceProtocol, MLComputePlan, MLComputePlanDeviceUsage, MLModelStructure,
    MLModelStructureNeuralNetwork, MLModelStructureNeuralNetworkLayer, MLModelStructureProgram,
    MLModelStructureProgramBlock, MLModelStructureProgramFunction, MLModelStructureProgramNamedValueType,
    MLModelStructureProgramOperation,
};
use objc2_foundation::{NSArray, NSDictionary, NSString};

use super::convert::{size, text, texts, url};
use super::edge::{enter, handler, unsupported};
use super::model::configuration;
use super::{Maybe, availability, some};
use crate::{ComputePlan, Configuration, Device, Error, PlannedOp, Result};

type AnyDevice = ProtocolObject<dyn MLComputeDeviceProtocol>;

/// How many levels of nested blocks are read.
const MAX_DEPTH: usize = 64;

/// The devices that Core ML can use. macOS 14.
///
/// # Errors
/// There is no Core ML, or it is older.
pub fn devices() -> Result<Vec<Device>> {
    availability()?;
    enter(|| {
        let class = AnyClass::get(c"MLModel")
            .filter(|class| class.metaclass().responds_to(sel!(availableComputeDevices)))
            .ok_or_else(|| unsupported("listing compute devices", "macOS 14"))?;
        // SAFETY: a class method without arguments that returns an array of devices.
        let devices: Maybe<NSArray<AnyDevice>> = unsafe { msg_send![class, availableComputeDevices] };
        some(devices, "compute devices")?.iter().map(|d| device(&d)).collect()
    })
}

/// Finds out on which device Core ML plans to run each op of a compiled model. macOS 14.4.
pub fn compute_plan<F>(path: &Path, configuration: &Configuration, done: F)
where
    F: FnOnce(Result<ComputePlan>) + Send + 'static,
{
    // The plan is bound to no thread but is not thread-safe either, so it is read on the thread that delivers it.
    handler(done, read).start(|block| {
        availability()?;
        let class = AnyClass::get(c"MLComputePlan");
        let class = class.ok_or_else(|| unsupported("a compute plan", "macOS 14.4"))?;
        let url = url(path)?;
        let configuration = self::configuration(configuration)?;
        // SAFETY: the selector takes a URL, a configuration and a block of (MLComputePlan *, NSError *), which it
        // copies.
        unsafe {
            msg_send![class, loadContentsOfURL: &*url, configuration: &*configuration, completionHandler: block]
        }
        Ok(())
    });
}

fn read(plan: &MLComputePlan) -> Result<ComputePlan> {
    // SAFETY: a getter.
    let structure: Maybe<MLModelStructure> = unsafe { msg_send![plan, modelStructure] };
    let structure = some(structure, "structure")?;
    let mut read = ComputePlan::default();
    // SAFETY: getters, nil for models of another kind.
    let (program, network) = unsafe { (structure.program(), structure.neuralNetwork()) };
    if let Some(program) = program {
        functions(plan, &program, &mut read.ops)?;
    }
    if let Some(network) = network {
        layers(plan, &network, &mut read.layers)?;
    }
    Ok(read)
}

fn functions(
    plan: &MLComputePlan,
    program: &MLModelStructureProgram,
    ops: &mut Vec<PlannedOp>,
) -> Result<()> {
    // SAFETY: a getter.
    let functions: Maybe<NSDictionary<NSString, MLModelStructureProgramFunction>> =
        unsafe { msg_send![program, functions] };
    let functions = some(functions, "functions")?;
    let mut names = functions.allKeys().to_vec();
    names.sort_by_key(|name| name.to_string());
    for name in names {
        let function = some(functions.objectForKey(&name), "function")?;
        // SAFETY: a getter.
        let block: Maybe<MLModelStructureProgramBlock> = unsafe { msg_send![&*function, block] };
        operations(plan, &name.to_string(), &*some(block, "block")?, ops, 0)?;
    }
    Ok(())
}

fn operations(
    plan: &MLComputePlan,
    function: &str,
    block: &MLModelStructureProgramBlock,
    ops: &mut Vec<PlannedOp>,
    depth: usize,
) -> Result<()> {
    if depth == MAX_DEPTH {
        return Err(Error::protocol(format!("Core ML gave blocks nested more than {MAX_DEPTH} deep")));
    }
    // SAFETY: a getter.
    let operations: Maybe<NSArray<MLModelStructureProgramOperation>> =
        unsafe { msg_send![block, operations] };
    for operation in some(operations, "operations")?.iter() {
        // SAFETY: getters; device and cost are nil where Core ML has none.
        let (name, outputs, blocks, usage, cost): (
            Maybe<NSString>,
            Maybe<NSArray<MLModelStructureProgramNamedValueType>>,
            Maybe<NSArray<MLModelStructureProgramBlock>>,
            _,
            _,
        ) = unsafe {
            (
                msg_send![&*operation, operatorName],
                msg_send![&*operation, outputs],
                msg_send![&*operation, blocks],
                plan.computeDeviceUsageForMLProgramOperation(&operation),
                plan.estimatedCostOfMLProgramOperation(&operation),
            )
        };
        let outputs = some(outputs, "outputs of an operation")?;
        let outputs = outputs.iter().map(|o| value_name(&o)).collect::<Result<_>>()?;
        let (preferred, supported) = devices_of(usage.as_deref())?;
        ops.push(PlannedOp {
            function: function.to_owned(),
            operator: text(&*some(name, "name of an operation")?, "name of an operation")?,
            outputs,
            preferred,
            supported,
            // SAFETY: a getter.
            cost: cost.map(|cost| unsafe { cost.weight() }),
        });
        for block in some(blocks, "blocks of an operation")?.iter() {
            self::operations(plan, function, &block, ops, depth + 1)?;
        }
    }
    Ok(())
}

fn value_name(value: &MLModelStructureProgramNamedValueType) -> Result<String> {
    // SAFETY: a getter.
    let name: Maybe<NSString> = unsafe { msg_send![value, name] };
    text(&*some(name, "name of an output")?, "name of an output")
}

fn layers(
    plan: &MLComputePlan,
    network: &MLModelStructureNeuralNetwork,
    layers: &mut Vec<PlannedOp>,
) -> Result<()> {
    // SAFETY: a getter.
    let read: Maybe<NSArray<MLModelStructureNeuralNetworkLayer>> = unsafe { msg_send![network, layers] };
    for layer in some(read, "layers")?.iter() {
        // SAFETY: getters; the device is nil where Core ML has none.
        let (ty, outputs, usage): (Maybe<NSString>, Maybe<NSArray<NSString>>, _) = unsafe {
            (
                msg_send![&*layer, type],
                msg_send![&*layer, outputNames],
                plan.computeDeviceUsageForNeuralNetworkLayer(&layer),
            )
        };
        let (preferred, supported) = devices_of(usage.as_deref())?;
        layers.push(PlannedOp {
            function: String::new(),
            operator: text(&*some(ty, "type of a layer")?, "type of a layer")?,
            outputs: texts(&*some(outputs, "outputs of a layer")?, "outputs of a layer")?,
            preferred,
            supported,
            cost: None,
        });
    }
    Ok(())
}

/// Returns the preferred device and all supported ones.
fn devices_of(usage: Option<&MLComputePlanDeviceUsage>) -> Result<(Option<Device>, Vec<Device>)> {
    let Some(usage) = usage else { return Ok((None, Vec::new())) };
    // SAFETY: getters.
    let (preferred, supported): (Maybe<AnyDevice>, Maybe<NSArray<AnyDevice>>) =
        unsafe { (msg_send![usage, preferredComputeDevice], msg_send![usage, supportedComputeDevices]) };
    let preferred = device(&*some(preferred, "preferred device")?)?;
    let supported = some(supported, "supported devices")?;
    Ok((Some(preferred), supported.iter().map(|d| device(&d)).collect::<Result<_>>()?))
}

/// Tells a device by its class. Older systems lack some of the classes.
fn device(device: &AnyDevice) -> Result<Device> {
    let is = |name| AnyClass::get(name).is_some_and(|class| is_kind(device, class));
    Ok(if is(c"MLCPUComputeDevice") {
        Device::Cpu
    } else if is(c"MLGPUComputeDevice") {
        Device::Gpu
    } else if is(c"MLNeuralEngineComputeDevice") {
        // SAFETY: a getter of this class.
        let cores: isize = unsafe { msg_send![device, totalCoreCount] };
        Device::NeuralEngine { cores: size(cores as i64, "number of cores")? }
    } else {
        let object: &AnyObject = device.as_ref();
        Device::Other(object.class().name().to_string_lossy().into_owned())
    })
}

fn is_kind(device: &AnyDevice, class: &AnyClass) -> bool {
    // SAFETY: a method of every object.
    unsafe { msg_send![device, isKindOfClass: class] }
}
