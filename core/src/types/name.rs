use crate::limits::NAME_MAX;
use serde::{Deserialize, Serialize};
use std::{fmt, sync::Arc};

/// Why some bytes are no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    #[error("a name cannot be empty")]
    Empty,
    #[error("a name cannot be longer than {NAME_MAX} bytes")]
    TooLong,
    #[error("a name cannot contain '/' or a zero byte")]
    Forbidden,
    #[error("'.' and '..' cannot be used as a name here")]
    Dots,
    #[error("an extended attribute's name starts with user., trusted., security. or system.")]
    Namespace,
}

/// The name of a directory entry: 1 to 255 bytes, any but `/` and NUL, not `.` or `..`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Vec<u8>", into = "Vec<u8>")]
pub struct Name(Arc<[u8]>);

impl Name {
    pub fn new(bytes: &[u8]) -> Result<Name, BadName> {
        match bytes {
            [] => Err(BadName::Empty),
            b"." | b".." => Err(BadName::Dots),
            _ if bytes.len() > NAME_MAX => Err(BadName::TooLong),
            _ if bytes.iter().any(|b| matches!(b, b'/' | 0)) => Err(BadName::Forbidden),
            _ => Ok(Name(bytes.into())),
        }
    }

    /// The name before all others.
    pub fn first() -> Name {
        Name([1].into())
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The name of an extended attribute, with its namespace in front.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Vec<u8>", into = "Vec<u8>")]
pub struct XattrName(Arc<[u8]>);

impl XattrName {
    pub fn new(bytes: &[u8]) -> Result<XattrName, BadName> {
        let prefixes: [&[u8]; 4] = [b"user.", b"trusted.", b"security.", b"system."];
        match bytes {
            [] => Err(BadName::Empty),
            _ if bytes.len() > NAME_MAX => Err(BadName::TooLong),
            _ if bytes.contains(&0) => Err(BadName::Forbidden),
            _ if !prefixes.iter().any(|p| bytes.starts_with(p) && bytes.len() > p.len()) => Err(BadName::Namespace),
            _ => Ok(XattrName(bytes.into())),
        }
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub fn is_in(&self, namespace: &str) -> bool {
        self.0.starts_with(namespace.as_bytes())
    }
}

macro_rules! like_bytes {
    ($name:ident) => {
        impl TryFrom<Vec<u8>> for $name {
            type Error = BadName;
            fn try_from(bytes: Vec<u8>) -> Result<Self, BadName> {
                $name::new(&bytes)
            }
        }
        impl From<$name> for Vec<u8> {
            fn from(name: $name) -> Vec<u8> {
                name.0.to_vec()
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", String::from_utf8_lossy(&self.0))
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&String::from_utf8_lossy(&self.0))
            }
        }
    };
}
like_bytes!(Name);
like_bytes!(XattrName);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_1_to_255_bytes_without_slash_or_zero() {
        assert!(Name::new(&[b'a'; 255]).is_ok());
        assert_eq!(Name::new(&[b'a'; 256]), Err(BadName::TooLong));
        assert_eq!(Name::new(b""), Err(BadName::Empty));
        assert_eq!(Name::new(b"a/b"), Err(BadName::Forbidden));
        assert_eq!(Name::new(b"a\0"), Err(BadName::Forbidden));
        assert_eq!(Name::new(b".."), Err(BadName::Dots));
        assert!(Name::new(&[0xff, 0xfe]).is_ok());
    }

    #[test]
    fn an_attribute_name_has_a_namespace() {
        assert!(XattrName::new(b"user.a").is_ok());
        assert_eq!(XattrName::new(b"user."), Err(BadName::Namespace));
        assert_eq!(XattrName::new(b"other.a"), Err(BadName::Namespace));
    }
}
