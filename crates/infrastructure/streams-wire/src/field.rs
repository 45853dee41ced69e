//! How the fields of a command are bytes, and the two macros by which commands are declared.
//!
//! `record!` makes a struct that is its fields one behind the other. `field: Type = value` is one that older versions do not send: it has that
//! value where nothing is left of the command. `commands!` makes the enum of the commands that go one way, with their types on the wire.

use bytes::{Buf, Bytes};

use crate::limits::{FRAME_BYTES_MAX, HEADER_BYTES, TEXT_BYTES_MAX};
use crate::{EncodeError, Flaw, Outgoing, text};

/// A value that stands in a command.
pub(crate) trait Field: Sized {
    /// No value has fewer. It bounds what a count may claim.
    const BYTES_MIN: usize;

    /// How many [`Field::put`] writes.
    fn bytes(&self) -> Result<usize, EncodeError>;

    /// Nothing here fails any more: [`Field::bytes`] has been asked, and its answer fits into a frame.
    fn put(&self, out: &mut Outgoing);

    fn take(input: &mut Input) -> Result<Self, Flaw>;
}

/// What has not been read yet of a command.
#[derive(Debug)]
pub(crate) struct Input(pub(crate) Bytes);

impl Input {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn take(&mut self, n_bytes: usize) -> Result<Bytes, Flaw> {
        if self.0.len() < n_bytes {
            return Err(Flaw::Cut);
        }
        Ok(self.0.split_to(n_bytes))
    }

    /// The length of what follows, which may not be more than is left.
    pub(crate) fn length(&mut self) -> Result<usize, Flaw> {
        let length = i32::take(self)?;
        let length = usize::try_from(length).map_err(|_| Flaw::Length(length))?;
        if self.0.len() < length {
            return Err(Flaw::Cut);
        }
        Ok(length)
    }
}

/// Of what fits into a frame.
pub(crate) fn to_i32(length: usize) -> i32 {
    i32::try_from(length).expect("a frame is shorter")
}

macro_rules! numbers {
    ($($number:ident $get:ident;)*) => {$(
        impl Field for $number {
            const BYTES_MIN: usize = size_of::<Self>();

            fn bytes(&self) -> Result<usize, EncodeError> {
                Ok(size_of::<Self>())
            }

            fn put(&self, out: &mut Outgoing) {
                out.put(&self.to_be_bytes());
            }

            fn take(input: &mut Input) -> Result<Self, Flaw> {
                input.0.$get().map_err(|_| Flaw::Cut)
            }
        }
    )*};
}

// A UUID of Java is a `u128`: its more significant half comes first.
numbers! {
    u8 try_get_u8;
    i32 try_get_i32;
    i64 try_get_i64;
    u128 try_get_u128;
}

impl Field for bool {
    const BYTES_MIN: usize = 1;

    fn bytes(&self) -> Result<usize, EncodeError> {
        Ok(1)
    }

    fn put(&self, out: &mut Outgoing) {
        out.put(&[u8::from(*self)]);
    }

    fn take(input: &mut Input) -> Result<Self, Flaw> {
        Ok(u8::take(input)? != 0)
    }
}

impl Field for String {
    const BYTES_MIN: usize = 2;

    fn bytes(&self) -> Result<usize, EncodeError> {
        let bytes = text::bytes_of(self);
        if bytes > TEXT_BYTES_MAX {
            return Err(EncodeError::Text { bytes });
        }
        Ok(2 + bytes)
    }

    fn put(&self, out: &mut Outgoing) {
        let bytes = u16::try_from(text::bytes_of(self)).expect("its length was looked at");
        out.put(&bytes.to_be_bytes());
        text::encode(self, |piece| out.put(piece));
    }

    fn take(input: &mut Input) -> Result<Self, Flaw> {
        let length = input.0.try_get_u16().map_err(|_| Flaw::Cut)?;
        text::decode(&input.take(length.into())?)
    }
}

/// With its length before it.
impl Field for Bytes {
    const BYTES_MIN: usize = 4;

    fn bytes(&self) -> Result<usize, EncodeError> {
        Ok(4 + self.len())
    }

    fn put(&self, out: &mut Outgoing) {
        to_i32(self.len()).put(out);
        out.put_shared(self);
    }

    fn take(input: &mut Input) -> Result<Self, Flaw> {
        let length = input.length()?;
        input.take(length)
    }
}

/// With their number before them.
impl<T: Field> Field for Vec<T> {
    const BYTES_MIN: usize = 4;

    fn bytes(&self) -> Result<usize, EncodeError> {
        let mut bytes = 4;
        for element in self {
            bytes += element.bytes()?;
        }
        Ok(bytes)
    }

    fn put(&self, out: &mut Outgoing) {
        to_i32(self.len()).put(out);
        for element in self {
            element.put(out);
        }
    }

    fn take(input: &mut Input) -> Result<Self, Flaw> {
        const { assert!(T::BYTES_MIN > 0, "so many of nothing may be claimed") };
        let claimed = i32::take(input)?;
        let n_elements = usize::try_from(claimed).map_err(|_| Flaw::Count(claimed))?;
        if n_elements > input.0.len() / T::BYTES_MIN {
            return Err(Flaw::Count(claimed));
        }
        let mut elements = Self::with_capacity(n_elements);
        for _ in 0..n_elements {
            elements.push(T::take(input)?);
        }
        Ok(elements)
    }
}

/// Reads one field.
macro_rules! take {
    ($input:ident, $type:ty) => {
        <$type as $crate::field::Field>::take($input)?
    };
    ($input:ident, $type:ty, $absent:expr) => {
        if $input.is_empty() {
            $absent
        } else {
            <$type as $crate::field::Field>::take($input)?
        }
    };
}

/// How many bytes a field has at least.
macro_rules! bytes_min {
    ($type:ty) => {
        <$type as $crate::field::Field>::BYTES_MIN
    };
    ($type:ty, $absent:expr) => {
        0
    };
}

macro_rules! record {
    ($(
        $(#[$about:meta])*
        $name:ident {
            $($(#[$about_field:meta])* $field:ident: $type:ty $(= $absent:expr)?),* $(,)?
        }
    )*) => {$(
        $(#[$about])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name {
            $($(#[$about_field])* pub $field: $type),*
        }

        // One has no fields.
        #[allow(unused_variables)]
        impl $crate::field::Field for $name {
            const BYTES_MIN: usize = 0 $(+ bytes_min!($type $(, $absent)?))*;

            fn bytes(&self) -> Result<usize, $crate::EncodeError> {
                Ok(0 $(+ self.$field.bytes()?)*)
            }

            fn put(&self, out: &mut $crate::Outgoing) {
                $(self.$field.put(out);)*
            }

            fn take(input: &mut $crate::field::Input) -> Result<Self, $crate::Flaw> {
                Ok(Self {
                    $($field: take!(input, $type $(, $absent)?)),*
                })
            }
        }

        #[cfg(test)]
        #[allow(unused_variables)]
        impl $crate::any::Any for $name {
            fn any(source: &mut $crate::any::Source) -> Self {
                Self {
                    $($field: <$type as $crate::any::Any>::any(source)),*
                }
            }
        }
    )*};
}

macro_rules! commands {
    (
        $(#[$about:meta])*
        $side:ident {
            with a request id { $($with:ident = $with_id:literal),* $(,)? }
            without { $($without:ident = $without_id:literal),* $(,)? }
        }
    ) => {
        $(#[$about])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum $side {
            $($with($with),)*
            $($without($without),)*
        }

        impl $side {
            /// What the type of a frame is called, if it goes this way.
            #[must_use]
            pub fn name_of(type_id: i32) -> Option<&'static str> {
                match type_id {
                    $($with_id => Some(stringify!($with)),)*
                    $($without_id => Some(stringify!($without)),)*
                    _ => None,
                }
            }

            #[must_use]
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$with(_) => stringify!($with),)*
                    $(Self::$without(_) => stringify!($without),)*
                }
            }

            #[must_use]
            pub fn type_id(&self) -> i32 {
                match self {
                    $(Self::$with(_) => $with_id,)*
                    $(Self::$without(_) => $without_id,)*
                }
            }

            /// Who asks chooses it, and it comes back as it was: clients keep in it which of them it is.
            #[must_use]
            pub fn request_id(&self) -> Option<i64> {
                match self {
                    $(Self::$with(command) => Some(command.request_id),)*
                    $(Self::$without(_) => None,)*
                }
            }

            /// # Errors
            /// See [`DecodeError`](crate::DecodeError).
            pub fn decode(frame: $crate::Frame) -> Result<Self, $crate::DecodeError> {
                let malformed = |flaw| $crate::DecodeError::Malformed {
                    command: Self::name_of(frame.type_id).unwrap_or_default(),
                    flaw,
                };
                let mut input = $crate::field::Input(frame.payload);
                match frame.type_id {
                    $($with_id => {
                        let command: $with = $crate::field::Field::take(&mut input).map_err(malformed)?;
                        Ok(Self::$with(command))
                    })*
                    $($without_id => {
                        let command: $without = $crate::field::Field::take(&mut input).map_err(malformed)?;
                        Ok(Self::$without(command))
                    })*
                    type_id => Err(Self::not_here(type_id)),
                }
            }

            /// # Errors
            /// See [`EncodeError`](crate::EncodeError).
            pub fn encode(&self, out: &mut $crate::Outgoing) -> Result<(), $crate::EncodeError> {
                match self {
                    $(Self::$with(command) => $crate::field::encode($with_id, stringify!($with), command, out),)*
                    $(Self::$without(command) => $crate::field::encode($without_id, stringify!($without), command, out),)*
                }
            }
        }

        $(impl From<$with> for $side {
            fn from(command: $with) -> Self {
                Self::$with(command)
            }
        })*
        $(impl From<$without> for $side {
            fn from(command: $without) -> Self {
                Self::$without(command)
            }
        })*

        #[cfg(test)]
        impl $side {
            /// One of each.
            pub(crate) fn any_of_each(source: &mut $crate::any::Source) -> Vec<Self> {
                vec![
                    $(Self::$with($crate::any::Any::any(source)),)*
                    $(Self::$without($crate::any::Any::any(source)),)*
                ]
            }
        }
    };
}

/// Writes a frame, or nothing.
pub(crate) fn encode(
    type_id: i32,
    command: &'static str,
    fields: &impl Field,
    out: &mut Outgoing,
) -> Result<(), EncodeError> {
    let payload_bytes = fields.bytes()?;
    let bytes = HEADER_BYTES + payload_bytes;
    if bytes > FRAME_BYTES_MAX {
        return Err(EncodeError::Frame { command, bytes });
    }
    type_id.put(out);
    to_i32(payload_bytes).put(out);
    fields.put(out);
    Ok(())
}
