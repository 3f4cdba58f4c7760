//! The units of the file as Rust types, and back: for `#[serde(with)]`.

/// A `Duration` written as whole seconds.
pub mod seconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        u32::deserialize(from).map(|count| Duration::from_secs(count.into()))
    }

    pub fn serialize<S: Serializer>(value: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(value.as_secs())
    }
}

/// A `Duration` written as whole milliseconds.
pub mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        u32::deserialize(from).map(|count| Duration::from_millis(count.into()))
    }

    pub fn serialize<S: Serializer>(value: &Duration, to: S) -> Result<S::Ok, S::Error> {
        (value.as_secs() * 1000 + u64::from(value.subsec_millis())).serialize(to)
    }
}

/// Several `Duration`s written as a list of whole seconds.
pub mod seconds_list {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Duration>, D::Error> {
        let counts = Vec::<u32>::deserialize(from)?;
        let durations = counts.into_iter().map(|s| Duration::from_secs(s.into()));
        Ok(durations.collect())
    }

    pub fn serialize<S: Serializer>(values: &[Duration], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(values.iter().map(Duration::as_secs))
    }
}

/// `true`, `false` or "auto", which is `None`; in quotes or not.
pub mod auto_bool {
    use serde::de::{Error, Unexpected, Visitor};
    use serde::{Deserializer, Serializer};

    struct AutoBool;

    impl Visitor<'_> for AutoBool {
        type Value = Option<bool>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("\"auto\", true or false")
        }

        fn visit_bool<E: Error>(self, value: bool) -> Result<Self::Value, E> {
            Ok(Some(value))
        }

        fn visit_str<E: Error>(self, value: &str) -> Result<Self::Value, E> {
            match value {
                "auto" => Ok(None),
                "true" => Ok(Some(true)),
                "false" => Ok(Some(false)),
                _ => Err(E::invalid_value(Unexpected::Str(value), &self)),
            }
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<bool>, D::Error> {
        from.deserialize_any(AutoBool)
    }

    pub fn serialize<S: Serializer>(value: &Option<bool>, to: S) -> Result<S::Ok, S::Error> {
        match value {
            None => to.serialize_str("auto"),
            Some(value) => to.serialize_bool(*value),
        }
    }
}
