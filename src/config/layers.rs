//! The layers of a configuration: a TOML file, and over it the environment. The `config` crate merges them.
//!
//! Both layers are sources of our own. `config`'s own would lose the line numbers, quote the faulty line (which may
//! hold a secret), take any key apart at dots (`[publishers."my.app"]`), and guess at types (`"007"`).

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fmt,
    path::{Path, PathBuf},
};

use config::{Map, Source, Value, ValueKind};
use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, Problems};

/// Variables that start so are keys: `REGRANT__SECTION__KEY`. Others (`REGRANT_CONFIG`, `REGRANT_LOG`) are not.
const PREFIX: &str = "REGRANT__";
const SEPARATOR: &str = "__";
const ENVIRONMENT: &str = "environment variable ";

/// `config` parses names at the top as path expressions, so everything hangs below this one.
const ROOT: &str = "regrant";

/// A set of environment variables; the process's own, or a test's.
pub type Variables = BTreeMap<OsString, OsString>;

/// One layer, each value with its origin.
#[derive(Clone)]
pub(crate) struct Layer(Map<String, Value>);

impl fmt::Debug for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The values may be secrets.
        f.write_str("Layer")
    }
}

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, config::ConfigError> {
        Ok(Map::from([(ROOT.to_owned(), Value::new(None, self.0.clone()))]))
    }
}

/// Lays each layer over those before it.
pub(crate) fn merge(layers: impl IntoIterator<Item = Layer>) -> Map<String, Value> {
    let mut builder = config::Config::builder();
    for layer in layers {
        builder = builder.add_source(layer);
    }
    // Cannot fail: our sources do not, and the root name is a plain one.
    let merged = builder.build().and_then(|merged| merged.get_table(ROOT));
    merged.unwrap_or_default()
}

/// At the start of a file's path: the directory of systemd credentials.
const CREDENTIALS: &str = "$CREDENTIALS_DIRECTORY/";
/// What it stands for outside of a unit: where systemd takes them from. So the shell finds what the daemon is given.
const CREDENTIAL_STORE: &str = "/etc/credstore";

/// Puts the directory of credentials into the paths that begin with it.
pub(crate) fn find_credentials(table: &mut Map<String, Value>, variables: &Variables) {
    let given = variables.get(OsStr::new("CREDENTIALS_DIRECTORY"));
    let directory = given.map_or(Path::new(CREDENTIAL_STORE), Path::new);
    for (key, value) in table {
        match &mut value.kind {
            ValueKind::Table(below) => find_credentials(below, variables),
            ValueKind::String(path) if key == "file" || key.ends_with("_file") => {
                if let Some(name) = path.strip_prefix(CREDENTIALS) {
                    *path = directory.join(name).display().to_string();
                }
            }
            _ => {}
        }
    }
}

/// Whether a value of this origin is a string that stands for any type.
pub(crate) fn is_environment(origin: &str) -> bool {
    origin.starts_with(ENVIRONMENT)
}

/// The environment variable of a key.
pub(crate) fn variable(path: &[String]) -> String {
    format!("{PREFIX}{}", path.join(SEPARATOR).to_uppercase())
}

/// The layer that a TOML file makes. Origins are `FILE:LINE`.
pub(crate) fn file(path: &Path, text: &str) -> Result<Layer, ConfigError> {
    let (table, errors) = DeTable::parse_recoverable(text);
    // The first: those after it are often only its consequences.
    let first = errors.into_iter().min_by_key(|error| error.span().map(|span| span.start));
    if let Some(error) = first {
        let before = text.get(..error.span().map_or(0, |span| span.start)).unwrap_or(text);
        return Err(ConfigError::Syntax {
            path: PathBuf::from(path),
            line: line(before),
            column: before.chars().rev().take_while(|c| *c != '\n').count() + 1,
            // Only the parser's own words: its full text quotes the line.
            reason: error.message().replace('\n', ", "),
        });
    }
    Ok(Layer(from_table(path, text, table.get_ref())))
}

fn line(before: &str) -> usize {
    before.matches('\n').count() + 1
}

fn from_table(path: &Path, text: &str, table: &DeTable<'_>) -> Map<String, Value> {
    table
        .iter()
        .map(|(key, value)| {
            let before = text.get(..key.span().start).unwrap_or(text);
            let origin = format!("{}:{}", path.display(), line(before));
            let value = from_value(path, text, value.get_ref(), &origin);
            (key.get_ref().to_string(), value)
        })
        .collect()
}

fn from_value(path: &Path, text: &str, value: &DeValue<'_>, origin: &String) -> Value {
    let kind = match value {
        DeValue::String(string) => ValueKind::String(string.to_string()),
        DeValue::Boolean(boolean) => ValueKind::Boolean(*boolean),
        DeValue::Datetime(datetime) => ValueKind::String(datetime.to_string()),
        DeValue::Integer(integer) => i128::from_str_radix(integer.as_str(), integer.radix())
            // Out of every range that a key can have, and said so when it is read.
            .map_or(ValueKind::I128(i128::MAX), ValueKind::I128),
        DeValue::Float(float) => ValueKind::Float(float.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Array(items) => {
            ValueKind::Array(items.iter().map(|item| from_value(path, text, item.get_ref(), origin)).collect())
        }
        DeValue::Table(table) => ValueKind::Table(from_table(path, text, table)),
    };
    Value::new(Some(origin), kind)
}

/// The layer that the environment makes. Every value is a string; the key's type says how to read it.
/// Names are lower-cased: variables are written in capitals.
pub(crate) fn environment(variables: &Variables, problems: &mut Problems) -> Layer {
    let mut layer = Map::new();
    for (name, value) in variables {
        let Some(key) = name.to_str().and_then(|name| name.strip_prefix(PREFIX)) else {
            continue;
        };
        let origin = format!("{ENVIRONMENT}{}", name.display());
        let Some(value) = value.to_str() else {
            problems.say(format!("the value of {origin} is not UTF-8"));
            continue;
        };
        let key = key.to_lowercase();
        let path: Vec<&str> = key.split(SEPARATOR).collect();
        let value = Value::new(Some(&origin), value);
        if !insert(&mut layer, &path, value) {
            problems.say(format!("{origin} contradicts another variable that names a part of it"));
        }
    }
    Layer(layer)
}

/// False if a part of the path is a plain value already, or the whole of it a table.
fn insert(table: &mut Map<String, Value>, path: &[&str], value: Value) -> bool {
    let Some((first, rest)) = path.split_first() else {
        return false;
    };
    if rest.is_empty() {
        return table.insert((*first).to_owned(), value).is_none();
    }
    let below = table.entry((*first).to_owned()).or_insert_with(|| Value::new(None, Map::<String, Value>::new()));
    match &mut below.kind {
        ValueKind::Table(below) => insert(below, rest, value),
        _ => false,
    }
}
