//! Reads configurations: those of coremltools in YAML or JSON, and ours, which write each setting as a form.
//!
//! ```yaml
//! config_type: OpPalettizerConfig            # coremltools
//! global_config: {nbits: 4, mode: kmeans}
//! op_type_configs: {gather: null}
//! ---
//! global_config: palette4                    # the same
//! op_type_configs: {gather: null}
//! ```

use std::collections::BTreeMap;
use std::str::FromStr;

use milwright_mil::DType;
use saphyr_parser::{Event, Parser, ScalarStyle};

use crate::compression::{Compression, Step};
use crate::config::Config;
use crate::schemes::linear::{Blocks, Linear};
use crate::schemes::palette::{Palette, Spread};
use crate::schemes::prune::{Prune, Rule};
use crate::weights::MIN_ELEMENTS;

/// Configurations nest three levels deep; this leaves room for a message about a deeper one.
const MAX_DEPTH: usize = 16;

/// A value of YAML. Numbers stay texts, and become what the key wants.
#[derive(Clone, Debug, PartialEq)]
enum Node {
    Null,
    Text(String),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

impl FromStr for Config {
    type Err = String;

    fn from_str(text: &str) -> Result<Config, String> {
        let Node::Map(entries) = read(text)? else {
            return Err(
                "a configuration is a mapping with `global_config`, `op_type_configs` or `op_name_configs`"
                    .into(),
            );
        };
        let mut config = Config::default();
        let (mut kind, mut joint) = (None, false);
        let mut entry_kinds = Vec::new();
        for (key, node) in &entries {
            match (key.as_str(), node) {
                ("config_type", Node::Text(name)) => kind = Some(Kind::of(name)?),
                ("config_type", _) => {
                    return Err("`config_type` is the name of a class, such as OpPalettizerConfig".into());
                }
                ("global_config" | "op_type_configs" | "op_name_configs", _) => entry_kinds.push((key, node)),
                ("joint_compression", Node::Text(text)) if text == "true" || text == "false" => {
                    joint = text == "true"
                }
                ("joint_compression", _) => return Err("`joint_compression` is true or false".into()),
                _ => {
                    return Err(format!(
                        "`{key}` is no key of a configuration; there are config_type, global_config, op_type_configs, \
                         op_name_configs and joint_compression"
                    ));
                }
            }
        }
        if entry_kinds.is_empty() {
            return Err(
                "the configuration says nothing: give global_config, op_type_configs or op_name_configs"
                    .into(),
            );
        }
        for (key, node) in entry_kinds {
            match (key.as_str(), node) {
                ("global_config", node) => {
                    config.all = entry(node, kind).map_err(|e| format!("global_config: {e}"))?
                }
                (_, Node::Null) => {}
                (_, Node::Map(of)) => {
                    let mut found = BTreeMap::new();
                    for (name, node) in of {
                        found.insert(
                            name.clone(),
                            entry(node, kind).map_err(|e| format!("{key}: {name}: {e}"))?,
                        );
                    }
                    let target =
                        if key == "op_type_configs" { &mut config.op_types } else { &mut config.op_names };
                    *target = found;
                }
                _ => return Err(format!("`{key}` is a mapping from names to settings")),
            }
        }
        if joint {
            let named = config.op_types.values_mut().chain(config.op_names.values_mut());
            for compression in named.chain([&mut config.all]).flatten().filter(|c| !c.steps.is_empty()) {
                let joined = Compression { joint, ..compression.clone() };
                *compression = joined.to_string().parse()?;
            }
        }
        Ok(config)
    }
}

/// The classes of coremltools.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Linear,
    Palette,
    Threshold,
    Magnitude,
}

impl Kind {
    fn of(name: &str) -> Result<Kind, String> {
        match name {
            "OpLinearQuantizerConfig" => Ok(Kind::Linear),
            "OpPalettizerConfig" => Ok(Kind::Palette),
            "OpThresholdPrunerConfig" => Ok(Kind::Threshold),
            "OpMagnitudePrunerConfig" => Ok(Kind::Magnitude),
            _ => Err(format!(
                "there is no `config_type` {name}; there are OpLinearQuantizerConfig, OpPalettizerConfig, \
                 OpThresholdPrunerConfig and OpMagnitudePrunerConfig"
            )),
        }
    }

    fn keys(self) -> &'static [&'static str] {
        match self {
            Kind::Linear => &["mode", "dtype", "granularity", "block_size", "weight_threshold"],
            Kind::Palette => &[
                "mode",
                "nbits",
                "granularity",
                "group_size",
                "channel_axis",
                "cluster_dim",
                "enable_per_channel_scale",
                "num_kmeans_workers",
                "lut_function",
                "weight_threshold",
            ],
            Kind::Threshold => &["threshold", "minimum_sparsity_percentile", "weight_threshold"],
            Kind::Magnitude => &["target_sparsity", "block_size", "n_m_ratio", "dim", "weight_threshold"],
        }
    }
}

/// Reads the setting of one entry; `None` leaves weights as they are.
fn entry(node: &Node, kind: Option<Kind>) -> Result<Option<Compression>, String> {
    let map = match node {
        Node::Null => return Ok(None),
        Node::Text(form) => return form.parse().map(Some),
        Node::List(_) => {
            return Err("it is a list, where a form such as `int8`, or a mapping, belongs".into());
        }
        Node::Map(map) => map,
    };
    let own = map.iter().find(|(key, _)| key == "config_type");
    let kind = match own {
        Some((_, Node::Text(name))) => Kind::of(name)?,
        Some(_) => return Err("`config_type` is the name of a class".into()),
        None => kind.ok_or("`config_type` is missing: it says which class the keys are of")?,
    };
    let keys = Keys { map, kind };
    keys.check()?;
    let (step, min) = (keys.step()?, keys.count("weight_threshold")?);
    let compression = Compression { min_elements: min.unwrap_or(MIN_ELEMENTS), ..Compression::from(step) };
    // What the options exclude together is known where forms are read.
    compression.to_string().parse().map(Some)
}

/// The keys of an entry.
struct Keys<'a> {
    map: &'a [(String, Node)],
    kind: Kind,
}

impl Keys<'_> {
    fn check(&self) -> Result<(), String> {
        let known = self.kind.keys();
        let other = self.map.iter().find(|(k, _)| k != "config_type" && !known.contains(&k.as_str()));
        match other {
            Some((key, _)) => Err(format!("`{key}` is no key of it; there are {}", known.join(", "))),
            None => Ok(()),
        }
    }

    fn get(&self, key: &str) -> Option<&Node> {
        self.map.iter().find(|(k, _)| k == key).map(|(_, node)| node).filter(|n| **n != Node::Null)
    }

    fn text(&self, key: &str) -> Result<Option<String>, String> {
        match self.get(key) {
            None => Ok(None),
            Some(Node::Text(text)) => Ok(Some(text.to_lowercase())),
            Some(_) => Err(format!("`{key}` is a single value")),
        }
    }

    fn parsed<T: FromStr>(&self, key: &str, what: &str) -> Result<Option<T>, String> {
        let text = self.text(key)?;
        text.map(|t| t.parse().map_err(|_| format!("`{key}` is {t}; it is {what}"))).transpose()
    }

    fn count(&self, key: &str) -> Result<Option<usize>, String> {
        self.parsed(key, "a number that is not negative")
    }

    fn share(&self, key: &str) -> Result<Option<f64>, String> {
        let found: Option<f64> = self.parsed(key, "a share from 0 to 1")?;
        match found {
            Some(x) if !(0.0..=1.0).contains(&x) => Err(format!("`{key}` is {x}; it is a share from 0 to 1")),
            found => Ok(found),
        }
    }

    fn one_of(&self, key: &str, values: &[&str]) -> Result<String, String> {
        let text = self.text(key)?.unwrap_or_else(|| values[0].to_owned());
        if values.contains(&text.as_str()) {
            return Ok(text);
        }
        Err(format!("`{key}` is {text}; it is one of {}", values.join(", ")))
    }

    fn step(&self) -> Result<Step, String> {
        match self.kind {
            Kind::Linear => self.linear().map(Step::Linear),
            Kind::Palette => self.palette().map(Step::Palette),
            Kind::Threshold => {
                let threshold = self.parsed("threshold", "a number")?.unwrap_or(Prune::THRESHOLD);
                if !(0.0..f32::INFINITY).contains(&threshold) {
                    return Err(format!("`threshold` is {threshold}; it is a number that is not negative"));
                }
                let least = self.share("minimum_sparsity_percentile")?.unwrap_or(Prune::LEAST);
                Ok(Step::Prune(Prune { rule: Rule::Threshold { threshold, least } }))
            }
            Kind::Magnitude => self.magnitude().map(|rule| Step::Prune(Prune { rule })),
        }
    }

    fn linear(&self) -> Result<Linear, String> {
        let mode = self.one_of("mode", &["linear_symmetric", "linear"])?;
        let dtype = match self.one_of("dtype", &["int8", "uint8", "int4", "uint4"])?.as_str() {
            "uint8" => DType::UInt8,
            "int4" => DType::Int4,
            "uint4" => DType::UInt4,
            _ => DType::Int8,
        };
        let granularity = self.one_of("granularity", &["per_channel", "per_tensor", "per_block"])?;
        let blocks = match (granularity.as_str(), self.get("block_size")) {
            ("per_tensor", _) => Blocks::Tensor,
            ("per_channel", _) => Blocks::Channel,
            (_, Some(Node::List(sizes))) => {
                let size = |n: &Node| match n {
                    Node::Text(t) => t.parse().map_err(|_| format!("`block_size` has {t}, which is no size")),
                    _ => Err("`block_size` is a number, or a list of numbers".to_owned()),
                };
                Blocks::Each(sizes.iter().map(size).collect::<Result<_, _>>()?)
            }
            // The whole of the input channels: each output channel has one scale.
            _ => match self.count("block_size")? {
                Some(0) => Blocks::Channel,
                size => Blocks::Along(size.unwrap_or(32)),
            },
        };
        Ok(Linear { dtype, symmetric: mode == "linear_symmetric", blocks })
    }

    fn palette(&self) -> Result<Palette, String> {
        let mode = self.one_of("mode", &["kmeans", "uniform", "unique", "custom"])?;
        if mode == "custom" || self.get("lut_function").is_some() {
            return Err("a `lut_function` is code, which a file cannot hold".into());
        }
        let bits: Option<u8> = self.parsed("nbits", "1, 2, 3, 4, 6 or 8")?;
        let bits = match (mode.as_str(), bits) {
            ("unique", None) => None,
            ("unique", Some(_)) => {
                return Err("`nbits` follows from the values in the mode unique: leave it out".into());
            }
            (_, Some(bits @ (1 | 2 | 3 | 4 | 6 | 8))) => Some(bits),
            (_, Some(bits)) => return Err(format!("`nbits` is {bits}; it is 1, 2, 3, 4, 6 or 8")),
            (mode, None) => return Err(format!("the mode {mode} needs `nbits`")),
        };
        let granularity = self.one_of("granularity", &["per_tensor", "per_grouped_channel"])?;
        let group =
            if granularity == "per_tensor" { None } else { Some(self.count("group_size")?.unwrap_or(32)) };
        // A group of no size is one of all channels.
        let group = group.filter(|&n| n > 0);
        let vector = self.count("cluster_dim")?.unwrap_or(1);
        Ok(Palette {
            bits,
            spread: if mode == "uniform" { Spread::Uniform } else { Spread::KMeans },
            group,
            axis: self.count("channel_axis")?.filter(|_| group.is_some() || vector > 1),
            vector,
            rows: self.one_of("enable_per_channel_scale", &["false", "true"])? == "true",
        })
    }

    fn magnitude(&self) -> Result<Rule, String> {
        let dim = self.count("dim")?;
        if dim.is_some_and(|d| d > 1) {
            return Err("`dim` is 0 or 1".into());
        }
        match (self.share("target_sparsity")?, self.get("n_m_ratio")) {
            (Some(sparsity), None) => {
                let block = self.count("block_size")?;
                if block.is_some_and(|b| b < 2) {
                    return Err("`block_size` is at least 2".into());
                }
                if dim.is_some() && block.is_none() {
                    return Err("`dim` goes with `block_size` or `n_m_ratio`".into());
                }
                Ok(Rule::Magnitude { sparsity, block: block.unwrap_or(1), dim: dim.unwrap_or(0) })
            }
            (None, Some(Node::List(pair))) => match &pair[..] {
                [Node::Text(n), Node::Text(m)] => {
                    let (n, m) = (n.parse().ok(), m.parse().ok());
                    let (Some(n), Some(m)) = (n, m) else { return Err("`n_m_ratio` is two numbers".into()) };
                    if n > m || m == 0 {
                        return Err(format!("`n_m_ratio` is {n}, {m}; the first is at most the second"));
                    }
                    if self.get("block_size").is_some() {
                        return Err("`block_size` goes with `target_sparsity`".into());
                    }
                    Ok(Rule::Ratio { n, m, dim: dim.unwrap_or(1) })
                }
                _ => Err("`n_m_ratio` is a list of two numbers".into()),
            },
            (None, Some(_)) => Err("`n_m_ratio` is a list of two numbers".into()),
            _ => Err("give one of `target_sparsity` and `n_m_ratio`".into()),
        }
    }
}

/// Reads one document. Aliases, which can multiply a text, are not taken.
fn read(text: &str) -> Result<Node, String> {
    let mut parser = Parser::new_from_str(text);
    let mut found = None;
    while let Some(event) = parser.next() {
        let (event, span) = event.map_err(|e| format!("it is no YAML: {e}"))?;
        let line = span.start.line();
        let node = match event {
            Event::Scalar(..) | Event::SequenceStart(..) | Event::MappingStart(..) | Event::Alias(_) => {
                value(&mut parser, event, line, 0)?
            }
            _ => continue,
        };
        if found.replace(node).is_some() {
            return Err(format!("line {line}: it has several documents; one is a configuration"));
        }
    }
    found.ok_or_else(|| "it is empty".to_owned())
}

fn value<'a>(
    parser: &mut Parser<'a, saphyr_parser::StrInput<'a>>,
    event: Event<'a>,
    line: usize,
    depth: usize,
) -> Result<Node, String> {
    if depth > MAX_DEPTH {
        return Err(format!("line {line}: it nests too deep"));
    }
    let next = |parser: &mut Parser<'a, saphyr_parser::StrInput<'a>>| match parser.next() {
        Some(Ok((event, span))) => Ok((event, span.start.line())),
        Some(Err(e)) => Err(format!("it is no YAML: {e}")),
        None => Err("it ends early".to_owned()),
    };
    match event {
        Event::Scalar(text, style, ..) => {
            let is_null =
                style == ScalarStyle::Plain && matches!(&*text, "" | "null" | "~" | "Null" | "NULL" | "None");
            Ok(if is_null { Node::Null } else { Node::Text(text.into_owned()) })
        }
        Event::SequenceStart(..) => {
            let mut items = Vec::new();
            loop {
                match next(parser)? {
                    (Event::SequenceEnd, _) => return Ok(Node::List(items)),
                    (event, line) => items.push(value(parser, event, line, depth + 1)?),
                }
            }
        }
        Event::MappingStart(..) => {
            let mut entries: Vec<(String, Node)> = Vec::new();
            loop {
                let (key, line) = match next(parser)? {
                    (Event::MappingEnd, _) => return Ok(Node::Map(entries)),
                    (Event::Scalar(key, ..), line) => (key.into_owned(), line),
                    (_, line) => return Err(format!("line {line}: a key is not a single text")),
                };
                if entries.iter().any(|(k, _)| *k == key) {
                    return Err(format!("line {line}: `{key}` is given twice"));
                }
                let (event, line) = next(parser)?;
                entries.push((key, value(parser, event, line, depth + 1)?));
            }
        }
        Event::Alias(_) => Err(format!("line {line}: aliases are not taken; write the setting out")),
        _ => Err(format!("line {line}: it is no configuration")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> Result<String, String> {
        let config: Config = text.parse()?;
        Ok(config.all.map_or_else(|| "–".to_owned(), |c| c.to_string()))
    }

    fn of(class: &str, keys: &str) -> Result<String, String> {
        all(&format!("config_type: {class}\nglobal_config: {{{keys}}}\n"))
    }

    #[test]
    fn the_classes_of_coremltools() {
        for (class, keys, form) in [
            ("OpLinearQuantizerConfig", "", "int8"),
            (
                "OpLinearQuantizerConfig",
                "mode: LINEAR, dtype: uint8, granularity: per_tensor",
                "uint8:tensor,asymmetric",
            ),
            ("OpLinearQuantizerConfig", "dtype: int4, granularity: per_block", "int4:block=32"),
            (
                "OpLinearQuantizerConfig",
                "dtype: int4, granularity: per_block, block_size: [1, '16']",
                "int4:block=1x16",
            ),
            // A block or group of no size is the whole dimension.
            ("OpLinearQuantizerConfig", "dtype: int4, granularity: per_block, block_size: 0", "int4"),
            (
                "OpPalettizerConfig",
                "nbits: 4, granularity: per_grouped_channel, group_size: 0, channel_axis: 1",
                "palette4",
            ),
            ("OpLinearQuantizerConfig", "dtype: int4, weight_threshold: 10", "int4:min=10"),
            ("OpPalettizerConfig", "nbits: '4'", "palette4"),
            ("OpPalettizerConfig", "mode: uniform, nbits: 6, weight_threshold: null", "palette6:uniform"),
            ("OpPalettizerConfig", "mode: unique", "unique"),
            (
                "OpPalettizerConfig",
                "nbits: 3, granularity: per_grouped_channel, group_size: 16, channel_axis: 1, num_kmeans_workers: 4",
                "palette3:group=16,axis=1",
            ),
            ("OpPalettizerConfig", "nbits: 8, cluster_dim: 2", "palette8:vector=2"),
            ("OpPalettizerConfig", "nbits: 4, enable_per_channel_scale: True", "palette4:rows"),
            ("OpThresholdPrunerConfig", "threshold: 0.03", "prune:threshold=3e-2"),
            ("OpMagnitudePrunerConfig", "target_sparsity: 1", "prune:sparsity=1"),
            (
                "OpMagnitudePrunerConfig",
                "target_sparsity: 0.7, block_size: 2, dim: 1",
                "prune:sparsity=0.7,block=2,dim=1",
            ),
            ("OpMagnitudePrunerConfig", "n_m_ratio: [3, 4]", "prune:ratio=3:4"),
        ] {
            assert_eq!(of(class, keys).as_deref(), Ok(form), "{class} {keys}");
        }
    }

    #[test]
    fn entries_by_type_and_name() {
        let text = "
            # Of several classes.
            config_type: OpLinearQuantizerConfig
            global_config: null
            op_type_configs:
              linear: {dtype: int4, granularity: per_block, block_size: 16}
              gather: ~
            op_name_configs:
              head_weight: {config_type: OpMagnitudePrunerConfig, n_m_ratio: [2, 4]}
              tail_weight: palette4:group=8";
        let config: Config = text.parse().unwrap();
        assert_eq!(config.all, None);
        assert_eq!(config.op_types["linear"], Some("int4:block=16".parse().unwrap()));
        assert_eq!(config.op_types["gather"], None);
        assert_eq!(config.op_names["head_weight"], Some("prune:ratio=2:4".parse().unwrap()));
        assert_eq!(config.op_names["tail_weight"], Some("palette4:group=8".parse().unwrap()));
        let joint = "joint_compression: true\nglobal_config: palette4\nop_type_configs: {conv: int8:tensor, gather: null}";
        let config: Config = joint.parse().unwrap();
        assert_eq!(config.all, Some("joint+palette4".parse().unwrap()));
        assert_eq!(config.op_types["conv"], Some("joint+int8:tensor".parse().unwrap()));
        assert_eq!(config.op_types["gather"], None);
        // JSON is YAML.
        assert_eq!(all(r#"{"global_config": "int8:tensor"}"#).as_deref(), Ok("int8:tensor"));
    }

    #[test]
    fn wrong_ones_say_why() {
        for (text, why) in [
            ("", "it is empty"),
            ("[1]", "is a mapping"),
            ("global_config: {dtype: int8}", "global_config: `config_type` is missing"),
            ("config_type: OpX\nglobal_config: null", "there is no `config_type` OpX"),
            ("config_type: OpPalettizerConfig", "says nothing"),
            ("globalconfig: int8", "`globalconfig` is no key"),
            ("joint_compression: 1\nglobal_config: int8", "is true or false"),
            ("global_config: int9", "there is no quantization `int9`"),
            ("global_config: int8\nglobal_config: int4", "given twice"),
            ("global_config: &a int8\nop_type_configs: {conv: *a}", "aliases"),
            ("global_config: int8\n---\nglobal_config: int8", "several documents"),
            ("global_config: [int8", "no YAML"),
            ("op_type_configs: int8", "is a mapping from names"),
        ] {
            let error = text.parse::<Config>().unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
        for (class, keys, why) in [
            ("OpLinearQuantizerConfig", "nbits: 4", "`nbits` is no key of it; there are mode, dtype"),
            ("OpLinearQuantizerConfig", "dtype: int3", "`dtype` is int3; it is one of int8"),
            ("OpPalettizerConfig", "mode: kmeans", "the mode kmeans needs `nbits`"),
            ("OpPalettizerConfig", "nbits: 5", "it is 1, 2, 3, 4, 6 or 8"),
            ("OpPalettizerConfig", "mode: custom", "is code"),
            ("OpMagnitudePrunerConfig", "target_sparsity: 1.5", "a share from 0 to 1"),
            ("OpMagnitudePrunerConfig", "target_sparsity: 0.5, n_m_ratio: [1, 2]", "give one of"),
            ("OpMagnitudePrunerConfig", "n_m_ratio: [3, 2]", "at most the second"),
            ("OpThresholdPrunerConfig", "threshold: -1", "not negative"),
        ] {
            let error = of(class, keys).unwrap_err();
            assert!(error.contains(why), "{class} {keys}: {error}");
        }
        let deep = "[".repeat(10_000);
        assert!(deep.parse::<Config>().is_err());
    }
}
