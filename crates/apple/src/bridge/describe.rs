//! A model's description, as plain data.

use std::collections::BTreeMap;

use objc2::msg_send;
use objc2::runtime::AnyObject;
use objc2::sel;
use objc2_core_ml::{
    MLFeatureDescription, MLFeatureType, MLImageConstraint, MLImageSize, MLImageSizeConstraint,
    MLImageSizeConstraintType, MLModelAuthorKey, MLModelCreatorDefinedKey, MLModelDescription,
    MLModelDescriptionKey, MLModelLicenseKey, MLModelVersionStringKey, MLMultiArrayConstraint,
    MLMultiArrayShapeConstraint, MLMultiArrayShapeConstraintType, MLStateConstraint,
};
use objc2_foundation::{NSArray, NSDictionary, NSNumber, NSString, NSValue};

use super::convert::{bounds, element_type, label, size, sizes, text};
use super::edge::responds;
use super::{Maybe, some};
use crate::{Description, Error, Feature, FeatureKind, ImageSizes, Metadata, Result, Shapes};

type Features = NSDictionary<NSString, MLFeatureDescription>;

pub(super) fn describe(model: &MLModelDescription) -> Result<Description> {
    // SAFETY: getters; the types are those of the headers, and every result may be nil.
    let (inputs, outputs, feature, probabilities, metadata): (
        Maybe<Features>,
        Maybe<Features>,
        _,
        _,
        Maybe<NSDictionary<NSString, AnyObject>>,
    ) = unsafe {
        (
            msg_send![model, inputDescriptionsByName],
            msg_send![model, outputDescriptionsByName],
            model.predictedFeatureName(),
            model.predictedProbabilitiesName(),
            msg_send![model, metadata],
        )
    };
    let mut states = Vec::new();
    if responds(model, sel!(stateDescriptionsByName)) {
        // SAFETY: a getter, which this system has.
        let descriptions: Maybe<Features> = unsafe { msg_send![model, stateDescriptionsByName] };
        states = features(&*some(descriptions, "descriptions of states")?)?;
    }
    let mut class_labels = Vec::new();
    if responds(model, sel!(classLabels)) {
        // SAFETY: a getter, which this system has.
        if let Some(labels) = unsafe { model.classLabels() } {
            class_labels = labels.iter().map(|l| label(&l)).collect::<Result<_>>()?;
        }
    }
    Ok(Description {
        inputs: features(&*some(inputs, "descriptions of inputs")?)?,
        outputs: features(&*some(outputs, "descriptions of outputs")?)?,
        states,
        predicted_feature: feature.map(|name| name.to_string()),
        predicted_probabilities: probabilities.map(|name| name.to_string()),
        class_labels,
        metadata: read_metadata(&*some(metadata, "metadata")?)?,
    })
}

fn read_metadata(entries: &NSDictionary<NSString, AnyObject>) -> Result<Metadata> {
    // SAFETY: constants of the framework.
    let (description, version, author, license, user) = unsafe {
        (
            MLModelDescriptionKey,
            MLModelVersionStringKey,
            MLModelAuthorKey,
            MLModelLicenseKey,
            MLModelCreatorDefinedKey,
        )
    };
    let entry = |key: Option<&NSString>| key.and_then(|key| entries.objectForKey(key));
    let field = |key| entry(key).map(|value| text(&value, "metadata")).transpose();
    Ok(Metadata {
        description: field(description)?,
        version: field(version)?,
        author: field(author)?,
        license: field(license)?,
        user: entry(user).map(|value| user_defined(&value)).transpose()?.unwrap_or_default(),
    })
}

fn user_defined(value: &AnyObject) -> Result<BTreeMap<String, String>> {
    let entries = value.downcast_ref::<NSDictionary>();
    let entries =
        entries.ok_or_else(|| Error::protocol("Core ML gave no dictionary of what a maker wrote"))?;
    let mut read = BTreeMap::new();
    for key in entries.allKeys().iter() {
        let value = some(entries.objectForKey(&key), "value of the metadata")?;
        read.insert(text(&key, "key of the metadata")?, text(&value, "metadata")?);
    }
    Ok(read)
}

/// The features by name.
fn features(descriptions: &Features) -> Result<Vec<Feature>> {
    let mut read = Vec::with_capacity(descriptions.count());
    for key in descriptions.allKeys().iter() {
        let description = some(descriptions.objectForKey(&key), "description of a feature")?;
        read.push(feature(text(&key, "names of features")?, &description)?);
    }
    read.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(read)
}

fn feature(name: String, description: &MLFeatureDescription) -> Result<Feature> {
    // SAFETY: getters; the constraints are nil for other types.
    let (optional, ty) = unsafe { (description.isOptional(), description.r#type()) };
    let kind = match ty {
        MLFeatureType::Int64 => FeatureKind::Int64,
        MLFeatureType::Double => FeatureKind::Double,
        MLFeatureType::String => FeatureKind::String,
        MLFeatureType::Sequence => FeatureKind::Sequence,
        MLFeatureType::Image => {
            // SAFETY: as above.
            image(&*some(unsafe { description.imageConstraint() }, "constraint of an image")?)?
        }
        MLFeatureType::MultiArray => {
            // SAFETY: as above.
            array(&*some(unsafe { description.multiArrayConstraint() }, "constraint of an array")?)?
        }
        MLFeatureType::Dictionary => {
            // SAFETY: as above.
            let constraint =
                some(unsafe { description.dictionaryConstraint() }, "constraint of a dictionary")?;
            // SAFETY: a getter.
            FeatureKind::Dictionary { text: unsafe { constraint.keyType() } == MLFeatureType::String }
        }
        MLFeatureType::State => {
            // SAFETY: as above; a system that has states has the method.
            state(&*some(unsafe { description.stateConstraint() }, "constraint of a state")?)?
        }
        other => FeatureKind::Unknown(other.0 as i64),
    };
    Ok(Feature { name, optional, kind })
}

fn array(constraint: &MLMultiArrayConstraint) -> Result<FeatureKind> {
    // SAFETY: getters.
    let (shape, data_type, shapes): (Maybe<NSArray<NSNumber>>, _, Maybe<MLMultiArrayShapeConstraint>) = unsafe {
        (msg_send![constraint, shape], constraint.dataType(), msg_send![constraint, shapeConstraint])
    };
    let shape = sizes(&*some(shape, "shape")?, "shape")?;
    let shapes = shapes_of(&*some(shapes, "constraint of a shape")?, &shape)?;
    Ok(FeatureKind::Array { element: element_type(data_type), shape, shapes })
}

fn shapes_of(constraint: &MLMultiArrayShapeConstraint, default: &[usize]) -> Result<Shapes> {
    // SAFETY: getters; each is called for the type that it belongs to.
    unsafe {
        Ok(match constraint.r#type() {
            MLMultiArrayShapeConstraintType::Enumerated => {
                let shapes: Maybe<NSArray<NSArray<NSNumber>>> = msg_send![constraint, enumeratedShapes];
                let shapes = some(shapes, "shapes")?;
                let shapes = shapes.iter().map(|s| sizes(&s, "shape")).collect::<Result<Vec<_>>>()?;
                if shapes.iter().all(|shape| shape == default) {
                    Shapes::Fixed
                } else {
                    Shapes::Enumerated(shapes)
                }
            }
            MLMultiArrayShapeConstraintType::Range => {
                let ranges: Maybe<NSArray<AnyObject>> = msg_send![constraint, sizeRangeForDimension];
                let ranges = some(ranges, "ranges of a shape")?;
                let ranges = ranges
                    .iter()
                    .map(|r| match r.downcast_ref::<NSValue>().and_then(NSValue::get_range) {
                        Some(range) => Ok(bounds(range)),
                        None => Err(Error::protocol("Core ML gave something else than a range of sizes")),
                    })
                    .collect::<Result<_>>()?;
                Shapes::Range(ranges)
            }
            _ => Shapes::Fixed,
        })
    }
}

fn image(constraint: &MLImageConstraint) -> Result<FeatureKind> {
    // SAFETY: getters.
    let (width, height, format, sizes): (_, _, _, Maybe<MLImageSizeConstraint>) = unsafe {
        (
            constraint.pixelsWide(),
            constraint.pixelsHigh(),
            constraint.pixelFormatType(),
            msg_send![constraint, sizeConstraint],
        )
    };
    let (width, height) = (pixels(width)?, pixels(height)?);
    let sizes = image_sizes(&*some(sizes, "constraint of a size")?, (width, height))?;
    Ok(FeatureKind::Image { width, height, format, sizes })
}

fn image_sizes(constraint: &MLImageSizeConstraint, default: (usize, usize)) -> Result<ImageSizes> {
    // SAFETY: getters; each is called for the type that it belongs to.
    unsafe {
        Ok(match constraint.r#type() {
            MLImageSizeConstraintType::Enumerated => {
                let sizes: Maybe<NSArray<MLImageSize>> = msg_send![constraint, enumeratedImageSizes];
                let sizes = some(sizes, "sizes")?;
                let sizes = sizes
                    .iter()
                    .map(|s| Ok((pixels(s.pixelsWide())?, pixels(s.pixelsHigh())?)))
                    .collect::<Result<Vec<_>>>()?;
                if sizes.iter().all(|size| *size == default) {
                    ImageSizes::Fixed
                } else {
                    ImageSizes::Enumerated(sizes)
                }
            }
            MLImageSizeConstraintType::Range => ImageSizes::Range {
                width: bounds(constraint.pixelsWideRange()),
                height: bounds(constraint.pixelsHighRange()),
            },
            _ => ImageSizes::Fixed,
        })
    }
}

fn pixels(n: isize) -> Result<usize> {
    size(n as i64, "size of an image")
}

fn state(constraint: &MLStateConstraint) -> Result<FeatureKind> {
    // SAFETY: getters.
    let (shape, data_type): (Maybe<NSArray<NSNumber>>, _) =
        unsafe { (msg_send![constraint, bufferShape], constraint.dataType()) };
    let shape = sizes(&*some(shape, "shape of a state")?, "shape of a state")?;
    Ok(FeatureKind::State { element: element_type(data_type), shape })
}
