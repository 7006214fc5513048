//! How one field stands for another. [`Field`] is a pair of conversions between a type of the core and the form it has
//! inside a message; the macros build whole messages out of it, so that each is written down once, as a list of names.

use crate::bad::{BadMessage, Why};

/// `Self` has the form `W` inside a message.
pub(crate) trait Field<W>: Sized {
    fn into_wire(self) -> W;
    fn from_wire(wire: W) -> Result<Self, BadMessage>;
}

/// `Self` is a message (or a choice within one) by itself: inside another it is optional on the wire and needed by us,
/// or optional for both, or repeated.
pub(crate) trait Message: Into<Self::Wire> + TryFrom<Self::Wire, Error = BadMessage> {
    type Wire;
}

impl<T: Message> Field<Option<T::Wire>> for T {
    fn into_wire(self) -> Option<T::Wire> {
        Some(self.into())
    }
    fn from_wire(wire: Option<T::Wire>) -> Result<T, BadMessage> {
        wire.ok_or(Why::Missing.at(""))?.try_into()
    }
}

impl<T: Message> Field<Option<T::Wire>> for Option<T> {
    fn into_wire(self) -> Option<T::Wire> {
        self.map(Into::into)
    }
    fn from_wire(wire: Option<T::Wire>) -> Result<Option<T>, BadMessage> {
        wire.map(TryInto::try_into).transpose()
    }
}

impl<T: Message> Field<Vec<T::Wire>> for Vec<T> {
    fn into_wire(self) -> Vec<T::Wire> {
        self.into_iter().map(Into::into).collect()
    }
    fn from_wire(wire: Vec<T::Wire>) -> Result<Vec<T>, BadMessage> {
        let items = wire.into_iter().enumerate();
        items.map(|(i, item)| item.try_into().map_err(|bad: BadMessage| bad.within(&format!("[{i}]")))).collect()
    }
}

/// What is the same on both sides.
macro_rules! same {
    ($($t:ty),*) => {$(
        impl Field<$t> for $t {
            fn into_wire(self) -> $t {
                self
            }
            fn from_wire(wire: $t) -> Result<$t, BadMessage> {
                Ok(wire)
            }
        }
    )*};
}
same!(u32, u64, i64, bool, bytes::Bytes, String, Vec<u32>, Option<u32>, Option<u64>);

/// Reads a field, and says which one it was when it is no good.
pub(crate) fn need<T: Field<W>, W>(wire: W, field: &str) -> Result<T, BadMessage> {
    T::from_wire(wire).map_err(|bad| bad.within(field))
}

pub(crate) fn at_most(got: usize, max: usize, field: &str) -> Result<(), BadMessage> {
    if got > max { Err(Why::TooMuch { got: got as u64, max: max as u64 }.at(field)) } else { Ok(()) }
}

pub(crate) fn at_least(got: usize, min: usize, field: &str) -> Result<(), BadMessage> {
    if got < min { Err(Why::TooLittle { got: got as u64, min: min as u64 }.at(field)) } else { Ok(()) }
}

/// Structs that have the same fields on both sides, and what must hold between them.
macro_rules! messages {
    ($($ours:ty = $wire:ty { $($field:ident),* } $(if $check:path)?;)*) => {$(
        #[allow(unused_variables)]
        impl From<$ours> for $wire {
            fn from(ours: $ours) -> Self {
                Self { $($field: $crate::field::Field::into_wire(ours.$field)),* }
            }
        }
        #[allow(unused_variables)]
        impl TryFrom<$wire> for $ours {
            type Error = $crate::bad::BadMessage;
            fn try_from(wire: $wire) -> Result<Self, $crate::bad::BadMessage> {
                let ours = Self { $($field: $crate::field::need(wire.$field, stringify!($field))?),* };
                $($check(&ours)?;)?
                Ok(ours)
            }
        }
        impl $crate::field::Message for $ours {
            type Wire = $wire;
        }
    )*};
}

/// Enums whose variants each hold one message, under the same names on both sides.
macro_rules! choices {
    ($($ours:ident = $wire:ident { $($variant:ident),* $(,)? })*) => {$(
        impl From<$ours> for $wire {
            fn from(ours: $ours) -> $wire {
                match ours { $($ours::$variant(one) => $wire::$variant(one.into()),)* }
            }
        }
        impl TryFrom<$wire> for $ours {
            type Error = $crate::bad::BadMessage;
            fn try_from(wire: $wire) -> Result<$ours, $crate::bad::BadMessage> {
                Ok(match wire {
                    $($wire::$variant(one) => $ours::$variant($crate::field::need(Some(one), stringify!($variant))?),)*
                })
            }
        }
        impl $crate::field::Message for $ours {
            type Wire = $wire;
        }
    )*};
}

/// Plain enums under the same names on both sides. The wire's 0 (what a missing field reads as) is none of ours.
macro_rules! enums {
    ($($ours:ident = $wire:ty { $($variant:ident),* $(,)? })*) => {$(
        impl $crate::field::Field<i32> for $ours {
            fn into_wire(self) -> i32 {
                match self { $($ours::$variant => <$wire>::$variant as i32,)* }
            }
            fn from_wire(number: i32) -> Result<$ours, $crate::bad::BadMessage> {
                match <$wire>::try_from(number) {
                    $(Ok(<$wire>::$variant) => Ok($ours::$variant),)*
                    Ok(<$wire>::Unspecified) | Err(_) => Err($crate::bad::Why::Unknown(number).at("")),
                }
            }
        }
    )*};
}

pub(crate) use {choices, enums, messages};
