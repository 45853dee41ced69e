//! A sorted set that mostly has one element.

use std::fmt;
use std::mem;
use std::ops::Deref;

/// Sorted, each element once. A single one needs no allocation: of a million objects nearly all have one name and one copy.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Few<T>(Inner<T>);

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Inner<T> {
    One(T),
    /// Not one.
    Many(Box<[T]>),
}

impl<T: Ord> Few<T> {
    pub(crate) fn insert(&mut self, item: T) {
        if let Err(idx) = self.binary_search(&item) {
            self.edit(|items| items.insert(idx, item));
        }
    }

    pub(crate) fn remove(&mut self, item: &T) {
        if let Ok(idx) = self.binary_search(item) {
            self.edit(|items| drop(items.remove(idx)));
        }
    }

    fn edit(&mut self, edit: impl FnOnce(&mut Vec<T>)) {
        let mut items = match mem::take(self).0 {
            Inner::One(item) => vec![item],
            Inner::Many(items) => items.into_vec(),
        };
        edit(&mut items);
        *self = Self::from_sorted(items);
    }
}

impl<T> Few<T> {
    fn from_sorted(mut items: Vec<T>) -> Self {
        Self(match items.pop() {
            Some(item) if items.is_empty() => Inner::One(item),
            last => {
                items.extend(last);
                Inner::Many(items.into())
            }
        })
    }
}

impl<T: Ord> FromIterator<T> for Few<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        let mut items: Vec<T> = items.into_iter().collect();
        items.sort();
        items.dedup();
        Self::from_sorted(items)
    }
}

impl<T> Default for Few<T> {
    fn default() -> Self {
        Self(Inner::Many(Box::default()))
    }
}

impl<T> Deref for Few<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match &self.0 {
            Inner::One(item) => std::slice::from_ref(item),
            Inner::Many(items) => items,
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Few<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}
