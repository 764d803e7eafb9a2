//! JSON as Go writes it: fields in the order given, no spaces, `<`, `>` and `&` escaped.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// A JSON value.
#[derive(Clone, Debug)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Str(String),
    List(Vec<Json>),
    Object(Object),
}

/// The fields of an object, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Object(Vec<(&'static str, Json)>);

impl Json {
    pub(crate) fn base64(bytes: &[u8]) -> Json {
        Json::Str(STANDARD.encode(bytes))
    }

    pub(crate) fn str(text: impl Into<String>) -> Json {
        Json::Str(text.into())
    }

    /// As Go writes a field that is left out when empty.
    fn is_zero(&self) -> bool {
        match self {
            Json::Null | Json::Bool(false) | Json::Int(0) | Json::Uint(0) => true,
            Json::Str(text) => text.is_empty(),
            Json::List(items) => items.is_empty(),
            Json::Bool(_) | Json::Int(_) | Json::Uint(_) | Json::Object(_) => false,
        }
    }
}

impl Object {
    /// A field that is there whatever its value.
    #[must_use]
    pub(crate) fn with(mut self, name: &'static str, value: Json) -> Object {
        self.0.push((name, value));
        self
    }

    /// A field that is left out when its value is zero or empty.
    #[must_use]
    pub(crate) fn with_some(self, name: &'static str, value: Json) -> Object {
        if value.is_zero() { self } else { self.with(name, value) }
    }
}

impl From<Object> for Json {
    fn from(object: Object) -> Json {
        Json::Object(object)
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Json::Null => f.write_str("null"),
            Json::Bool(value) => value.fmt(f),
            Json::Int(value) => value.fmt(f),
            Json::Uint(value) => value.fmt(f),
            Json::Str(text) => string(text, f),
            Json::List(items) => list('[', ']', items, f, |item, f| item.fmt(f)),
            Json::Object(object) => object.fmt(f),
        }
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        list('{', '}', &self.0, f, |(name, value), f| write!(f, "\"{name}\":{value}"))
    }
}

fn list<T>(
    open: char,
    close: char,
    items: &[T],
    f: &mut fmt::Formatter<'_>,
    each: impl Fn(&T, &mut fmt::Formatter<'_>) -> fmt::Result,
) -> fmt::Result {
    write!(f, "{open}")?;
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            f.write_str(",")?;
        }
        each(item, f)?;
    }
    write!(f, "{close}")
}

fn string(text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str("\"")?;
    for c in text.chars() {
        match c {
            '"' => f.write_str("\\\"")?,
            '\\' => f.write_str("\\\\")?,
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            '\t' => f.write_str("\\t")?,
            '\u{8}' => f.write_str("\\b")?,
            '\u{c}' => f.write_str("\\f")?,
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\u{1f}' => write!(f, "\\u{:04x}", c as u32)?,
            c => write!(f, "{c}")?,
        }
    }
    f.write_str("\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_keep_their_order_and_empty_ones_go() {
        let object = Object::default()
            .with_some("z", Json::Int(-1))
            .with_some("none", Json::Uint(0))
            .with_some("text", Json::str(""))
            .with("a", Json::Null)
            .with("list", Json::List(vec![Json::base64(b"a"), Json::Bool(true)]));
        assert_eq!(Json::from(object).to_string(), r#"{"z":-1,"a":null,"list":["YQ==",true]}"#);
    }

    #[test]
    fn strings_are_escaped_as_go_does() {
        assert_eq!(Json::str("a<b>&\"\\\n\u{1}é").to_string(), r#""a\u003cb\u003e\u0026\"\\\n\u0001é""#);
    }
}
