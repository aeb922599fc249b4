//! Encoders of categories: convert strings and integers to numbers, and back.

use std::collections::HashMap;

use milwright_formats::proto::categorical_mapping::{MappingType, ValueOnUnknown};
use milwright_formats::proto::dict_vectorizer::Map;
use milwright_formats::proto::model::Type;
use milwright_formats::proto::one_hot_encoder::{CategoryType, HandleUnknown};
use milwright_formats::proto::{CategoricalMapping, DictVectorizer, OneHotEncoder};

use super::given::{Category, Given};
use super::{first_output, malformed, typed};
use crate::{Dictionary, Error, FeatureInfo, FeatureType, Prediction, Result, Tensor};

#[derive(Debug)]
pub(super) enum Categories {
    /// Converts a dictionary to a vector with each value at the place of its key.
    Vectorizer(Places),
    /// Converts a category to a vector with a 1 at its place and zeros elsewhere.
    OneHot { places: Places, ignore_unknown: bool },
    /// Maps categories to other categories.
    Mapping { map: HashMap<Category, Category>, keys: Form, values: Form, unknown: Option<Category> },
}

/// The place of each category in a vector.
#[derive(Debug)]
pub(super) struct Places {
    form: Form,
    places: HashMap<Category, usize>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Form {
    Strings,
    Ints,
}

impl Categories {
    /// `None` if it is a model of another kind.
    pub fn new(ty: Option<&Type>) -> Result<Option<Categories>> {
        Ok(Some(match ty {
            Some(Type::DictVectorizer(m)) => Categories::Vectorizer(Places::of_vectorizer(m)?),
            Some(Type::OneHotEncoder(m)) => Categories::OneHot {
                places: Places::of_encoder(m)?,
                ignore_unknown: match HandleUnknown::try_from(m.handle_unknown) {
                    Ok(HandleUnknown::ErrorOnUnknown) => false,
                    Ok(HandleUnknown::IgnoreUnknown) => true,
                    Err(_) => return Err(malformed("an unknown way to handle what is unknown")),
                },
            },
            Some(Type::CategoricalMapping(m)) => Categories::mapping(m)?,
            _ => return Ok(None),
        }))
    }

    fn mapping(m: &CategoricalMapping) -> Result<Categories> {
        let (map, keys, values): (HashMap<_, _>, _, _) = match &m.mapping_type {
            Some(MappingType::StringToInt64Map(m)) => {
                let entry = |(k, v): (&String, &i64)| (Category::String(k.clone()), Category::Int(*v));
                (m.map.iter().map(entry).collect(), Form::Strings, Form::Ints)
            }
            Some(MappingType::Int64ToStringMap(m)) => {
                let entry = |(k, v): (&i64, &String)| (Category::Int(*k), Category::String(v.clone()));
                (m.map.iter().map(entry).collect(), Form::Ints, Form::Strings)
            }
            None => return Err(malformed("the mapping maps nothing")),
        };
        let unknown = match &m.value_on_unknown {
            Some(ValueOnUnknown::StrValue(s)) => Some(Category::String(s.clone())),
            Some(ValueOnUnknown::Int64Value(n)) => Some(Category::Int(*n)),
            None => None,
        };
        if unknown.as_ref().is_some_and(|unknown| Form::of(unknown) != values) {
            return Err(malformed("the mapping gives what is unknown a value of another type"));
        }
        Ok(Categories::Mapping { map, keys, values, unknown })
    }

    pub fn compute(&self, given: &Given<'_>) -> Result<Prediction> {
        let input = given.only()?;
        let output = first_output(given.function)?;
        match self {
            Categories::Vectorizer(places) => {
                let entries = given.dictionary(&input.name)?;
                let mut found = Vec::with_capacity(entries.len());
                for (key, value) in entries {
                    places.form.check(&input.name, &key)?;
                    // Unknown keys are ignored, as in scikit-learn.
                    found.extend(places.places.get(&key).map(|&place| (place, value)));
                }
                places.output(output, found)
            }
            Categories::OneHot { places, ignore_unknown } => {
                let category = one(given, input)?;
                places.form.check(&input.name, &category)?;
                match places.places.get(&category) {
                    None if !ignore_unknown => Err(unknown(input, &category)),
                    place => places.output(output, place.map(|&place| (place, 1.0)).into_iter().collect()),
                }
            }
            Categories::Mapping { map, keys, values, unknown: default } => {
                let is_sequence = matches!(input.ty, FeatureType::Sequence { .. });
                let categories = match is_sequence {
                    true => given.categories(&input.name)?,
                    false => vec![one(given, input)?],
                };
                let mut mapped = Vec::with_capacity(categories.len());
                for category in &categories {
                    keys.check(&input.name, category)?;
                    let value = map.get(category).or(default.as_ref());
                    mapped.push(value.ok_or_else(|| unknown(input, category))?.clone());
                }
                let shape = if is_sequence { &[mapped.len()][..] } else { &[] };
                Ok(Prediction::new(vec![(output.name.clone(), values.tensor(shape, mapped)?)]))
            }
        }
    }
}

impl Places {
    fn of_vectorizer(m: &DictVectorizer) -> Result<Places> {
        match &m.map {
            Some(Map::StringToIndex(s)) => Places::of_strings(&s.vector),
            Some(Map::Int64ToIndex(i)) => Places::of_ints(&i.vector),
            None => Err(malformed("the vectorizer has no keys")),
        }
    }

    fn of_encoder(m: &OneHotEncoder) -> Result<Places> {
        match &m.category_type {
            Some(CategoryType::StringCategories(s)) => Places::of_strings(&s.vector),
            Some(CategoryType::Int64Categories(i)) => Places::of_ints(&i.vector),
            None => Err(malformed("the encoder has no categories")),
        }
    }

    fn of_strings(strings: &[String]) -> Result<Places> {
        Places::new(Form::Strings, strings.iter().cloned().map(Category::String))
    }

    fn of_ints(ints: &[i64]) -> Result<Places> {
        Places::new(Form::Ints, ints.iter().copied().map(Category::Int))
    }

    fn new(form: Form, categories: impl Iterator<Item = Category>) -> Result<Places> {
        let mut places = HashMap::new();
        for (i, category) in categories.enumerate() {
            if let Some(first) = places.insert(category.clone(), i) {
                return Err(malformed(format!("{category} has two places, {first} and {i}")));
            }
        }
        Ok(Places { form, places })
    }

    /// Builds the output from numbers at places: a dictionary if that is declared, or else the whole vector.
    fn output(&self, output: &FeatureInfo, mut found: Vec<(usize, f64)>) -> Result<Prediction> {
        let name = output.name.clone();
        match &output.ty {
            FeatureType::Dictionary { .. } => {
                found.sort_by_key(|(place, _)| *place);
                let entries = found.into_iter().map(|(place, value)| (place as i64, value));
                let dictionary = Dictionary::from_ints(entries);
                let values = vec![(name.clone(), dictionary.values().clone())];
                Ok(Prediction::new(values).with_keys(name, dictionary.keys().clone()))
            }
            _ => {
                let mut vector = vec![0.0; self.places.len()];
                found.into_iter().for_each(|(place, value)| vector[place] = value);
                Ok(Prediction::new(vec![(name, typed(output, &vector)?)]))
            }
        }
    }
}

impl Form {
    fn of(category: &Category) -> Form {
        match category {
            Category::String(_) => Form::Strings,
            Category::Int(_) => Form::Ints,
        }
    }

    /// Refuses a category of the other form: a model of strings knows no int64.
    fn check(self, name: &str, category: &Category) -> Result<()> {
        if Form::of(category) == self {
            return Ok(());
        }
        let wanted = match self {
            Form::Strings => "strings",
            Form::Ints => "whole numbers",
        };
        Err(Error::invalid(format!("the model takes {wanted} in the input `{name}`, {category} is none")))
    }

    /// Converts categories of this form to a tensor.
    fn tensor(self, shape: &[usize], categories: Vec<Category>) -> Result<Tensor> {
        let mut strings = Vec::new();
        let mut ints = Vec::new();
        for category in categories {
            match category {
                Category::String(s) => strings.push(s),
                Category::Int(n) => ints.push(n),
            }
        }
        let tensor = match self {
            Form::Strings => Tensor::from_strings(shape, strings),
            Form::Ints => Tensor::from_vec(shape, ints),
        };
        tensor.map_err(|e| Error::invalid(e.to_string()))
    }
}

fn one(given: &Given<'_>, input: &FeatureInfo) -> Result<Category> {
    let categories = given.categories(&input.name)?;
    let count = categories.len();
    let mut categories = categories.into_iter();
    match (categories.next(), categories.next()) {
        (Some(category), None) => Ok(category),
        _ => {
            Err(Error::invalid(format!("the input `{}` has {count} values, the model takes one", input.name)))
        }
    }
}

fn unknown(input: &FeatureInfo, category: &Category) -> Error {
    Error::invalid(format!("the model does not know {category}, which the input `{}` has", input.name))
}
