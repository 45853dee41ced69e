//! A list that mostly has one item: then it has no memory of its own.

use std::ops::Deref;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Few<T> {
    One([T; 1]),
    Many(Box<[T]>),
}

impl<T> Few<T> {
    pub(crate) fn into_vec(self) -> Vec<T> {
        match self {
            Self::One(one) => one.into(),
            Self::Many(many) => many.into_vec(),
        }
    }
}

impl<T> From<Vec<T>> for Few<T> {
    fn from(items: Vec<T>) -> Self {
        match <[T; 1]>::try_from(items) {
            Ok(one) => Self::One(one),
            Err(many) => Self::Many(many.into()),
        }
    }
}

impl<T> FromIterator<T> for Few<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        items.into_iter().collect::<Vec<_>>().into()
    }
}

impl<T> Deref for Few<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match self {
            Self::One(one) => one,
            Self::Many(many) => many,
        }
    }
}
