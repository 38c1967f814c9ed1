//! JSON Schemas of the types that are read and written (draft 07, which `AsyncAPI` takes without being told).

use std::collections::BTreeMap;

use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::commands::body::{Client, UserId};

/// Where types that are used more than once stand in the document.
pub const COMPONENTS: &str = "#/components/schemas/";

/// Makes schemas; what several of them share is a component.
pub struct Schemas {
    /// Of what is read.
    bodies: SchemaGenerator,
    /// Of what is written: there, what may be null is always present.
    answers: SchemaGenerator,
}

/// What every body may hold.
#[derive(Deserialize, JsonSchema)]
#[expect(dead_code, reason = "only its schema is used: commands::body::envelope reads it")]
struct Common {
    /// The person of support who acts, or `"system"`. An administrative command needs it, unless its publisher is a system.
    actor: Option<Actor>,
    /// What your app knows of the person's device.
    context: Option<Client>,
}

/// Who acts.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its schema is used")]
enum Actor {
    /// A person of support. The publisher needs `assert_actor`.
    Person(Person),
    /// Nobody but the publisher itself, which must be a `system`.
    System(#[schemars(extend("const" = "system"))] String),
}

/// A person of support.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
#[expect(dead_code, reason = "only its schema is used")]
struct Person {
    /// Their id.
    id: UserId,
}

impl Schemas {
    pub fn new() -> Self {
        let settings = || {
            SchemaSettings::draft07()
                .with(|settings| {
                    settings.definitions_path = "/components/schemas".into();
                    settings.meta_schema = None;
                })
                .with_transform(RecursiveTransform(forget_sizes_of_integers))
        };
        Self {
            bodies: settings().for_deserialize().into_generator(),
            answers: settings().for_serialize().into_generator(),
        }
    }

    /// The schema of a body: a command's own fields, and those of every body.
    pub fn body(&mut self, own: fn(&mut SchemaGenerator) -> Schema) -> Value {
        let mut body = inlined(&mut self.bodies, own);
        let common = inlined(&mut self.bodies, Common::json_schema);
        body.remove("description");
        if let (Some(Value::Object(fields)), Some(Value::Object(common))) = (
            Some(body.ensure_object().entry("properties").or_insert_with(|| Map::new().into())),
            common.get("properties"),
        ) {
            fields.extend(common.clone());
        }
        body.into()
    }

    /// The schema of something that is written.
    pub fn answer(&mut self, own: fn(&mut SchemaGenerator) -> Schema) -> Value {
        inlined(&mut self.answers, own).into()
    }

    /// The components, by name.
    pub fn components(mut self) -> BTreeMap<String, Value> {
        let read = self.bodies.take_definitions(true);
        let written = self.answers.take_definitions(true);
        let mut all = BTreeMap::new();
        for (name, schema) in read.into_iter().chain(written) {
            let before = all.insert(name.clone(), schema.clone());
            debug_assert!(before.is_none_or(|before| before == schema), "{name} is read otherwise than it is written");
        }
        all
    }
}

/// A schema as it stands, even if the generator would rather refer to it.
fn inlined(generator: &mut SchemaGenerator, own: fn(&mut SchemaGenerator) -> Schema) -> Schema {
    let mut schema = own(generator);
    if let Some(Value::String(reference)) = schema.get("$ref")
        && let Some(name) = reference.strip_prefix(COMPONENTS)
        && let Some(Ok(target)) = generator.definitions().get(name).cloned().map(Schema::try_from)
    {
        schema = target;
    }
    for transform in generator.transforms_mut() {
        transform.transform(&mut schema);
    }
    schema
}

/// `uint8` and the like are no formats that JSON Schema knows, and what fits into one says nothing.
fn forget_sizes_of_integers(schema: &mut Schema) {
    let format = schema.get("format").and_then(Value::as_str).unwrap_or_default();
    if format.contains("int") || format == "double" || format == "float" {
        if format == "uint8" && schema.get("maximum").and_then(Value::as_i64) == Some(255) {
            schema.remove("maximum");
        }
        schema.remove("format");
    }
}

/// Puts types that are used once where they are used, and forgets those that are not used: a name of their own would only
/// make readers look elsewhere.
pub fn inline_what_is_used_once(schemas: &mut [&mut Value], components: &mut BTreeMap<String, Value>) {
    loop {
        let mut uses: BTreeMap<String, usize> = components.keys().map(|name| (name.clone(), 0)).collect();
        for schema in schemas.iter().map(|schema| &**schema).chain(components.values()) {
            count(schema, &mut uses);
        }
        let Some((name, times)) = uses.into_iter().find(|(_, times)| *times < 2) else { return };
        let Some(definition) = components.remove(&name) else { return };
        if times == 1 {
            for schema in schemas.iter_mut().map(|schema| &mut **schema).chain(components.values_mut()) {
                substitute(schema, &name, &definition);
            }
        }
    }
}

fn component_of(schema: &Value) -> Option<&str> {
    schema.get("$ref")?.as_str()?.strip_prefix(COMPONENTS)
}

fn count(schema: &Value, uses: &mut BTreeMap<String, usize>) {
    if let Some(used) = component_of(schema).and_then(|name| uses.get_mut(name)) {
        *used += 1;
    }
    match schema {
        Value::Object(fields) => fields.values().for_each(|inner| count(inner, uses)),
        Value::Array(items) => items.iter().for_each(|inner| count(inner, uses)),
        _ => {}
    }
}

fn substitute(schema: &mut Value, name: &str, definition: &Value) {
    if component_of(schema) == Some(name) {
        *schema = definition.clone();
        return;
    }
    match schema {
        Value::Object(fields) => {
            // What stands beside a reference is wrapped by draft 07; what is said at the place says more.
            if let Some([only]) = fields.get("allOf").and_then(Value::as_array).map(Vec::as_slice)
                && component_of(only) == Some(name)
                && let Value::Object(inner) = definition
            {
                fields.remove("allOf");
                for (key, value) in inner {
                    fields.entry(key.clone()).or_insert_with(|| value.clone());
                }
            }
            fields.values_mut().for_each(|inner| substitute(inner, name, definition));
        }
        Value::Array(items) => items.iter_mut().for_each(|inner| substitute(inner, name, definition)),
        _ => {}
    }
}
