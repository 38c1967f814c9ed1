//! Header values: what a message's header table can hold, as plain owned data.
//!
//! Every kind that RabbitMQ carries has its variant, so that a message which is published again (a retry, a
//! dead letter, a replay) keeps its headers exactly.

use std::collections::BTreeMap;

use lapin::types::{AMQPValue, DecimalValue, FieldArray, FieldTable, ShortString};

use super::message::TooLong;

/// A header table.
pub type Headers = BTreeMap<String, HeaderValue>;

/// One value in a header table (AMQP 0-9-1 field types as RabbitMQ implements them).
#[derive(Clone, Debug, PartialEq)]
pub enum HeaderValue {
    /// True or false.
    Bool(bool),
    /// A signed byte.
    I8(i8),
    /// An unsigned byte.
    U8(u8),
    /// A signed 16-bit integer.
    I16(i16),
    /// An unsigned 16-bit integer.
    U16(u16),
    /// A signed 32-bit integer.
    I32(i32),
    /// An unsigned 32-bit integer.
    U32(u32),
    /// A signed 64-bit integer, what most clients send for a number.
    I64(i64),
    /// A 32-bit floating point number.
    F32(f32),
    /// A 64-bit floating point number.
    F64(f64),
    /// `value` divided by ten to the power of `scale`.
    Decimal {
        /// Number of decimal places.
        scale: u8,
        /// The digits.
        value: u32,
    },
    /// Text in UTF-8.
    Text(String),
    /// A long string that is not UTF-8.
    RawText(Vec<u8>),
    /// A byte array (RabbitMQ's own type `x`).
    Bytes(Vec<u8>),
    /// Seconds since 1970.
    Timestamp(u64),
    /// A list of values.
    List(Vec<HeaderValue>),
    /// A nested table.
    Table(Headers),
    /// Nothing.
    Void,
}

impl HeaderValue {
    /// The text, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The number, if it is an integer of any width that fits.
    pub fn as_i64(&self) -> Option<i64> {
        Some(match *self {
            Self::I8(n) => n.into(),
            Self::U8(n) => n.into(),
            Self::I16(n) => n.into(),
            Self::U16(n) => n.into(),
            Self::I32(n) => n.into(),
            Self::U32(n) => n.into(),
            Self::I64(n) => n,
            Self::Timestamp(n) => i64::try_from(n).ok()?,
            _ => return None,
        })
    }

    /// Bytes that this value takes on the wire, its type included.
    fn encoded_len(&self) -> usize {
        1 + match self {
            Self::Void => 0,
            Self::Bool(_) | Self::I8(_) | Self::U8(_) => 1,
            Self::I16(_) | Self::U16(_) => 2,
            Self::I32(_) | Self::U32(_) | Self::F32(_) => 4,
            Self::Decimal { .. } => 5,
            Self::I64(_) | Self::F64(_) | Self::Timestamp(_) => 8,
            Self::Text(text) => 4 + text.len(),
            Self::RawText(bytes) | Self::Bytes(bytes) => 4 + bytes.len(),
            Self::List(values) => 4 + values.iter().map(Self::encoded_len).sum::<usize>(),
            Self::Table(headers) => encoded_len(headers),
        }
    }
}

impl From<&str> for HeaderValue {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for HeaderValue {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for HeaderValue {
    fn from(number: i64) -> Self {
        Self::I64(number)
    }
}

impl From<bool> for HeaderValue {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

/// Bytes that the table takes on the wire.
pub(super) fn encoded_len(headers: &Headers) -> usize {
    4 + headers.iter().map(|(name, value)| 1 + name.len() + value.encoded_len()).sum::<usize>()
}

pub(super) fn from_lapin(table: &FieldTable) -> Headers {
    table.inner().iter().map(|(name, value)| (name.to_string(), value_from_lapin(value))).collect()
}

pub(super) fn to_lapin(headers: &Headers) -> Result<FieldTable, TooLong> {
    let mut table = FieldTable::default();
    for (name, value) in headers {
        let name = ShortString::try_new(name.as_str()).map_err(|_| TooLong::new("a header's name"))?;
        table.insert(name, value_to_lapin(value)?);
    }
    Ok(table)
}

fn value_from_lapin(value: &AMQPValue) -> HeaderValue {
    match value {
        AMQPValue::Boolean(value) => HeaderValue::Bool(*value),
        AMQPValue::ShortShortInt(number) => HeaderValue::I8(*number),
        AMQPValue::ShortShortUInt(number) => HeaderValue::U8(*number),
        AMQPValue::ShortInt(number) => HeaderValue::I16(*number),
        AMQPValue::ShortUInt(number) => HeaderValue::U16(*number),
        AMQPValue::LongInt(number) => HeaderValue::I32(*number),
        AMQPValue::LongUInt(number) => HeaderValue::U32(*number),
        AMQPValue::LongLongInt(number) => HeaderValue::I64(*number),
        AMQPValue::Float(number) => HeaderValue::F32(*number),
        AMQPValue::Double(number) => HeaderValue::F64(*number),
        AMQPValue::DecimalValue(decimal) => HeaderValue::Decimal { scale: decimal.scale, value: decimal.value },
        AMQPValue::ShortString(text) => HeaderValue::Text(text.to_string()),
        AMQPValue::LongString(text) => match std::str::from_utf8(text.as_bytes()) {
            Ok(text) => HeaderValue::Text(text.to_owned()),
            Err(_) => HeaderValue::RawText(text.as_bytes().to_vec()),
        },
        AMQPValue::FieldArray(values) => HeaderValue::List(values.as_slice().iter().map(value_from_lapin).collect()),
        AMQPValue::Timestamp(seconds) => HeaderValue::Timestamp(*seconds),
        AMQPValue::FieldTable(table) => HeaderValue::Table(from_lapin(table)),
        AMQPValue::ByteArray(bytes) => HeaderValue::Bytes(bytes.as_slice().to_vec()),
        AMQPValue::Void => HeaderValue::Void,
    }
}

fn value_to_lapin(value: &HeaderValue) -> Result<AMQPValue, TooLong> {
    Ok(match value {
        HeaderValue::Bool(value) => AMQPValue::Boolean(*value),
        HeaderValue::I8(number) => AMQPValue::ShortShortInt(*number),
        HeaderValue::U8(number) => AMQPValue::ShortShortUInt(*number),
        HeaderValue::I16(number) => AMQPValue::ShortInt(*number),
        HeaderValue::U16(number) => AMQPValue::ShortUInt(*number),
        HeaderValue::I32(number) => AMQPValue::LongInt(*number),
        HeaderValue::U32(number) => AMQPValue::LongUInt(*number),
        HeaderValue::I64(number) => AMQPValue::LongLongInt(*number),
        HeaderValue::F32(number) => AMQPValue::Float(*number),
        HeaderValue::F64(number) => AMQPValue::Double(*number),
        HeaderValue::Decimal { scale, value } => AMQPValue::DecimalValue(DecimalValue { scale: *scale, value: *value }),
        HeaderValue::Text(text) => AMQPValue::LongString(text.as_bytes().into()),
        HeaderValue::RawText(bytes) => AMQPValue::LongString(bytes.as_slice().into()),
        HeaderValue::Bytes(bytes) => AMQPValue::ByteArray(bytes.as_slice().into()),
        HeaderValue::Timestamp(seconds) => AMQPValue::Timestamp(*seconds),
        HeaderValue::List(values) => {
            AMQPValue::FieldArray(FieldArray::from(values.iter().map(value_to_lapin).collect::<Result<Vec<_>, _>>()?))
        }
        HeaderValue::Table(headers) => AMQPValue::FieldTable(to_lapin(headers)?),
        HeaderValue::Void => AMQPValue::Void,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_value() -> impl Strategy<Value = HeaderValue> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(HeaderValue::Bool),
            any::<i8>().prop_map(HeaderValue::I8),
            any::<u8>().prop_map(HeaderValue::U8),
            any::<i16>().prop_map(HeaderValue::I16),
            any::<u16>().prop_map(HeaderValue::U16),
            any::<i32>().prop_map(HeaderValue::I32),
            any::<u32>().prop_map(HeaderValue::U32),
            any::<i64>().prop_map(HeaderValue::I64),
            (-1e9_f32..1e9).prop_map(HeaderValue::F32),
            (-1e9_f64..1e9).prop_map(HeaderValue::F64),
            (any::<u8>(), any::<u32>()).prop_map(|(scale, value)| HeaderValue::Decimal { scale, value }),
            ".{0,20}".prop_map(HeaderValue::Text),
            Just(HeaderValue::RawText(vec![0xff, 0xfe])),
            prop::collection::vec(any::<u8>(), 0..20).prop_map(HeaderValue::Bytes),
            any::<u64>().prop_map(HeaderValue::Timestamp),
            Just(HeaderValue::Void),
        ];
        leaf.prop_recursive(3, 30, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(HeaderValue::List),
                prop::collection::btree_map("[a-z]{0,8}", inner, 0..5).prop_map(HeaderValue::Table),
            ]
        })
    }

    proptest! {
        #[test]
        fn headers_survive_the_way_through_lapin(headers in prop::collection::btree_map("[a-z-]{1,20}", any_value(), 0..8)) {
            let table = to_lapin(&headers).unwrap();
            prop_assert_eq!(from_lapin(&table), headers);
        }

        #[test]
        fn the_encoded_length_is_what_lapin_writes(headers in prop::collection::btree_map("[a-z-]{1,20}", any_value(), 0..8)) {
            let table = to_lapin(&headers).unwrap();
            let mut bytes = vec![0; 64 * 1024];
            let buffer = std::io::Cursor::new(bytes.as_mut_slice());
            let (_, written) = lapin::types::generation::gen_field_table(&table)(buffer.into()).unwrap().into_inner();
            prop_assert_eq!(usize::try_from(written), Ok(encoded_len(&headers)));
        }
    }

    #[test]
    fn a_header_name_over_255_bytes_is_refused() {
        let headers = Headers::from([("n".repeat(256), HeaderValue::Void)]);
        let nested = Headers::from([("a".to_owned(), HeaderValue::List(vec![HeaderValue::Table(headers.clone())]))]);
        assert!(to_lapin(&headers).is_err());
        assert!(to_lapin(&nested).is_err());
    }

    #[test]
    fn integers_of_every_width_read_as_i64() {
        assert_eq!(HeaderValue::U8(7).as_i64(), Some(7));
        assert_eq!(HeaderValue::I64(-7).as_i64(), Some(-7));
        assert_eq!(HeaderValue::Timestamp(u64::MAX).as_i64(), None);
        assert_eq!(HeaderValue::from("7").as_i64(), None);
    }
}
