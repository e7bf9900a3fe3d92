//! A value that is never shown, and wiped when nobody needs it any more.

use zeroize::{Zeroize, Zeroizing};

use super::mask;

/// A key, a token, a password.
///
/// It has neither `Debug` nor `Display` nor `Serialize`, so that no derive, no log and no document
/// can show it by accident: whoever holds one and needs these writes them without the value.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret<T: Zeroize = String>(Zeroizing<T>);

impl<T: Zeroize> Secret<T> {
    /// Takes a value.
    pub fn of(value: T) -> Self {
        Self(Zeroizing::new(value))
    }

    /// The value, for whoever sends it to where it belongs.
    pub fn reveal(&self) -> &T {
        &self.0
    }

    /// The value, for whoever reads it in.
    pub(super) fn reveal_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl Secret {
    /// Takes a text, which is masked from now on in whatever this process tells.
    pub fn new(text: impl Into<String>) -> Self {
        let text = text.into();
        mask::remember(&text);
        Self::of(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Says by which of two traits a value was found: the wanted one wins if it is there.
    struct Probe<T>(std::marker::PhantomData<T>);

    trait Without {
        const HAS: bool = false;
    }
    impl<T> Without for Probe<T> {}
    impl<T: std::fmt::Debug> Probe<T> {
        const HAS: bool = true;
    }

    #[test]
    fn a_secret_cannot_be_shown() {
        const { assert!(!Probe::<Secret>::HAS && !Probe::<Secret<Vec<u8>>>::HAS) };
        const { assert!(Probe::<String>::HAS, "the probe sees what can") };
    }

    #[test]
    fn secrets_are_told_apart_by_their_value() {
        assert!(Secret::new("a-secret") == Secret::new("a-secret"));
        assert!(Secret::of(vec![1_u8]) != Secret::of(vec![2]));
    }
}
