use baton_core::types::BadName;

/// A message that was refused: where in it, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bad message: {field} {why}")]
pub struct BadMessage {
    /// The way to it, as in `commands[3].Write.slice.len`.
    pub field: String,
    pub why: Why,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    #[error("is missing")]
    Missing,
    #[error("is 0, which names nothing")]
    Zero,
    #[error("is {0}, which is no value of it that this build knows")]
    Unknown(i32),
    #[error("is {got}: at most {max} is allowed")]
    TooMuch { got: u64, max: u64 },
    #[error("is {got}: at least {min} is needed")]
    TooLittle { got: u64, min: u64 },
    #[error("cannot be decoded")]
    Undecodable,
    #[error("is no name: {0}")]
    Name(BadName),
    #[error("contains a zero byte")]
    ZeroByte,
    #[error("is an operation that only the cluster itself may carry out")]
    ClusterOnly,
    #[error("never leaves the machine that made it")]
    Local,
    #[error("does not follow from what stands before it: {0}")]
    Order(&'static str),
    #[error("is {theirs}: this build understands up to {ours}; update it first")]
    Newer { theirs: u32, ours: u32 },
    #[error("is {theirs}: this build speaks {ours} and newer; update whoever sent it")]
    Older { theirs: u32, ours: u32 },
}

impl Why {
    pub(crate) fn at(self, field: impl Into<String>) -> BadMessage {
        BadMessage { field: field.into(), why: self }
    }
}

impl BadMessage {
    /// The same, seen from the message around it.
    pub(crate) fn within(self, outer: &str) -> BadMessage {
        let field = match self.field.as_str() {
            "" => outer.to_owned(),
            place if place.starts_with('[') => format!("{outer}{place}"),
            inner => format!("{outer}.{inner}"),
        };
        BadMessage { field, ..self }
    }
}

impl From<BadMessage> for tonic::Status {
    fn from(bad: BadMessage) -> tonic::Status {
        tonic::Status::invalid_argument(bad.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_way_to_the_field() {
        let bad = Why::TooMuch { got: 70_000, max: 65_536 }.at("data").within("Write").within("[3]").within("commands");
        assert_eq!(bad.to_string(), "bad message: commands[3].Write.data is 70000: at most 65536 is allowed");
    }
}
