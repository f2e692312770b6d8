//! How orders and answers travel between processes: each field in turn, numbers in big-endian, bytes
//! behind their length. Both ends are the same build (IPC begins with the build id), so there are no versions.
//!
//! Invariant: decoding allocates no more than the input is long, whatever the input says.

use crate::mail::MessageId;
use bstr::BString;

/// The input is not what the other end of the same build writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// It ends too early.
    #[error("message between processes is too short")]
    Short,
    /// A value that no variant or type has.
    #[error("message between processes has an unknown value {0}")]
    Unknown(u32),
    /// Bytes are left over.
    #[error("message between processes has {0} bytes too many")]
    Long(usize),
    /// A message id that is none.
    #[error("message between processes has a malformed message id")]
    NoMessageId,
}

/// A value that can be sent.
pub trait Wire: Sized {
    /// Appends the value.
    fn put(&self, out: &mut Vec<u8>);
    /// Takes a value off the front of `input`.
    fn take(input: &mut &[u8]) -> Result<Self, WireError>;

    /// The value as bytes.
    fn to_wire(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.put(&mut out);
        out
    }
    /// The value of exactly these bytes.
    fn from_wire(mut input: &[u8]) -> Result<Self, WireError> {
        let value = Self::take(&mut input)?;
        if input.is_empty() { Ok(value) } else { Err(WireError::Long(input.len())) }
    }
}

fn split<'a>(input: &mut &'a [u8], length: usize) -> Result<&'a [u8], WireError> {
    let (head, tail) = input.split_at_checked(length).ok_or(WireError::Short)?;
    *input = tail;
    Ok(head)
}

macro_rules! wire_number {
    ($($number:ty),*) => { $(
        impl Wire for $number {
            fn put(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_be_bytes());
            }
            fn take(input: &mut &[u8]) -> Result<Self, WireError> {
                let bytes = split(input, size_of::<$number>())?;
                bytes.try_into().map(<$number>::from_be_bytes).map_err(|_| WireError::Short)
            }
        }
    )* };
}
wire_number!(u8, u16, u32, u64, i32, i64);

impl Wire for bool {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
    fn take(input: &mut &[u8]) -> Result<Self, WireError> {
        match u8::take(input)? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(WireError::Unknown(other.into())),
        }
    }
}

impl Wire for MessageId {
    fn put(&self, out: &mut Vec<u8>) {
        BString::from(self.as_bstr()).put(out);
    }
    fn take(input: &mut &[u8]) -> Result<Self, WireError> {
        let text = BString::take(input)?;
        Self::parse(&text).ok_or(WireError::NoMessageId)
    }
}

impl Wire for BString {
    fn put(&self, out: &mut Vec<u8>) {
        (self.len() as u64).put(out);
        out.extend_from_slice(self);
    }
    fn take(input: &mut &[u8]) -> Result<Self, WireError> {
        let length = usize::try_from(u64::take(input)?).map_err(|_| WireError::Short)?;
        split(input, length).map(Self::from)
    }
}

impl<T: Wire> Wire for Option<T> {
    fn put(&self, out: &mut Vec<u8>) {
        self.is_some().put(out);
        if let Some(value) = self {
            value.put(out);
        }
    }
    fn take(input: &mut &[u8]) -> Result<Self, WireError> {
        if bool::take(input)? { T::take(input).map(Some) } else { Ok(None) }
    }
}

impl<T: Wire> Wire for Vec<T> {
    fn put(&self, out: &mut Vec<u8>) {
        (self.len() as u64).put(out);
        self.iter().for_each(|value| value.put(out));
    }
    fn take(input: &mut &[u8]) -> Result<Self, WireError> {
        let count = u64::take(input)?;
        let mut values = Vec::new();
        for _ in 0..count {
            values.push(T::take(input)?);
        }
        Ok(values)
    }
}

impl<A: Wire, B: Wire> Wire for (A, B) {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
        self.1.put(out);
    }
    fn take(input: &mut &[u8]) -> Result<Self, WireError> {
        Ok((A::take(input)?, B::take(input)?))
    }
}

/// A struct whose fields travel in the order they are written.
#[macro_export]
macro_rules! wire_struct {
    ($(#[$about:meta])* pub struct $name:ident { $($(#[$doc:meta])* pub $field:ident: $kind:ty),* $(,)? }) => {
        $(#[$about])*
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct $name { $($(#[$doc])* pub $field: $kind),* }

        impl $crate::as_user::wire::Wire for $name {
            fn put(&self, out: &mut Vec<u8>) {
                $($crate::as_user::wire::Wire::put(&self.$field, out);)*
            }
            fn take(input: &mut &[u8]) -> Result<Self, $crate::as_user::wire::WireError> {
                Ok(Self { $($field: $crate::as_user::wire::Wire::take(input)?),* })
            }
        }
    };
}

/// An enum whose variants hold one value each (`()` for none), numbered as written.
#[macro_export]
macro_rules! wire_enum {
    ($(#[$about:meta])* pub enum $name:ident { $($(#[$doc:meta])* $variant:ident($kind:ty) = $number:literal),* $(,)? }) => {
        $(#[$about])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$doc])* $variant($kind)),* }

        impl $crate::as_user::wire::Wire for $name {
            fn put(&self, out: &mut Vec<u8>) {
                match self {
                    $(Self::$variant(value) => {
                        out.push($number);
                        $crate::as_user::wire::Wire::put(value, out);
                    })*
                }
            }
            fn take(input: &mut &[u8]) -> Result<Self, $crate::as_user::wire::WireError> {
                match <u8 as $crate::as_user::wire::Wire>::take(input)? {
                    $($number => Ok(Self::$variant($crate::as_user::wire::Wire::take(input)?)),)*
                    other => Err($crate::as_user::wire::WireError::Unknown(other.into())),
                }
            }
        }
    };
}

impl Wire for () {
    fn put(&self, _: &mut Vec<u8>) {}
    fn take(_: &mut &[u8]) -> Result<Self, WireError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_that_the_input_does_not_have_is_refused_without_allocating() {
        let mut lie = u64::MAX.to_wire();
        lie.extend_from_slice(b"abc");
        assert_eq!(BString::from_wire(&lie), Err(WireError::Short));
        assert_eq!(Vec::<u64>::from_wire(&lie), Err(WireError::Short));
    }

    #[test]
    fn what_was_put_is_taken_again() {
        let value = (Some(BString::from("joe")), vec![1u32, 2, 3]);
        assert_eq!(Wire::from_wire(&value.to_wire()), Ok(value));
        assert_eq!(u8::from_wire(&[1, 2]), Err(WireError::Long(1)));
    }
}
