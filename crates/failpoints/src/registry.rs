//! All points of a program, by name.

use std::collections::BTreeMap;

use crate::terms::Terms;
use crate::{Error, Point};

/// All points of a program, by name.
#[derive(Debug)]
pub struct Registry(BTreeMap<&'static str, &'static Point>);

impl Registry {
    /// Of the points in these lists. Of two with one name, only the last can be set.
    pub fn new(lists: &[&[&'static Point]]) -> Registry {
        Registry(lists.iter().copied().flatten().map(|point| (point.name(), *point)).collect())
    }

    /// Sets points as `name=terms;name=terms` says; all of them or, with an error, none.
    ///
    /// # Errors
    /// [`Error::Malformed`], [`Error::Unknown`].
    pub fn set_all(&self, text: &str) -> Result<(), Error> {
        let named = Terms::parse_named(text)?;
        let points = named.into_iter().map(|(name, terms)| Ok((self.point(&name)?, terms)));
        for (point, terms) in points.collect::<Result<Vec<_>, Error>>()? {
            point.set(Some(terms));
        }
        Ok(())
    }

    /// Sets one point, whose counts begin anew.
    ///
    /// # Errors
    /// [`Error::Unknown`], [`Error::Malformed`].
    pub fn set(&self, name: &str, terms: &str) -> Result<(), Error> {
        let point = self.point(name)?;
        point.set(Some(Terms::parse(terms)?));
        Ok(())
    }

    /// Makes a point do nothing.
    ///
    /// # Errors
    /// [`Error::Unknown`].
    pub fn clear(&self, name: &str) -> Result<(), Error> {
        self.point(name)?.set(None);
        Ok(())
    }

    /// A point's terms as they were set, and how often one of them has acted since.
    ///
    /// # Errors
    /// [`Error::Unknown`], [`Error::Unset`].
    pub fn terms(&self, name: &str) -> Result<(String, u64), Error> {
        self.point(name)?.terms().ok_or_else(|| Error::Unset(name.to_owned()))
    }

    /// `name=terms` of every point, one a line, in the order of the names.
    pub fn list(&self) -> String {
        let terms = |point: &Point| point.terms().map(|(text, _)| text).unwrap_or_default();
        self.0.values().map(|point| format!("{}={}\n", point.name(), terms(point))).collect()
    }

    fn point(&self, name: &str) -> Result<&'static Point, Error> {
        self.0.get(name).copied().ok_or_else(|| Error::Unknown(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    mod first {
        crate::points! {
            B = "b";
            pub(super) A = "a";
        }
    }

    mod second {
        crate::points! {
            C = "c";
        }
    }

    #[test]
    fn points_are_set_by_name() {
        let registry = Registry::new(&[first::ALL, second::ALL]);
        assert_eq!(registry.list(), "a=\nb=\nc=\n");
        registry.set_all("b=1*panic;c=sleep(5)").unwrap();
        registry.set("a", "off").unwrap();
        assert_eq!(registry.list(), "a=off\nb=1*panic\nc=sleep(5)\n");
        first::A.hit();
        assert_eq!(registry.terms("a"), Ok(("off".to_owned(), 1)));
        // Nothing is set of what is wrong in part.
        assert_eq!(registry.set_all("a=print;z=off"), Err(Error::Unknown("z".into())));
        assert!(registry.set_all("a=print;b=explode").is_err() && registry.set("a", "explode").is_err());
        assert_eq!(registry.set("z", "off"), Err(Error::Unknown("z".into())));
        registry.clear("b").unwrap();
        registry.clear("b").unwrap();
        assert_eq!(registry.list(), "a=off\nb=\nc=sleep(5)\n");
        assert_eq!(registry.terms("b"), Err(Error::Unset("b".into())));
        assert_eq!(registry.clear("z"), Err(Error::Unknown("z".into())));
        assert_eq!(registry.terms("z"), Err(Error::Unknown("z".into())));
    }
}
