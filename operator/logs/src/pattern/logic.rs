//! Conditions that `&&`, `||` and parentheses join. `&&` binds closer.

use super::error::PatternError;
use super::scan::Scan;

/// How deep parentheses may be nested.
const DEPTH_MAX: usize = 32;

#[derive(Clone, Debug)]
pub(super) enum Logic<C> {
    All(Vec<Logic<C>>),
    Any(Vec<Logic<C>>),
    One(C),
}

type Reader<'r, C> = &'r mut dyn FnMut(&mut Scan<'_>) -> Result<C, PatternError>;

impl<C> Logic<C> {
    /// `condition` reads one condition.
    pub(super) fn read(
        scan: &mut Scan<'_>,
        condition: Reader<'_, C>,
    ) -> Result<Self, PatternError> {
        Self::any(scan, condition, 0)
    }

    fn any(
        scan: &mut Scan<'_>,
        condition: Reader<'_, C>,
        depth: usize,
    ) -> Result<Self, PatternError> {
        let mut read = vec![Self::all(scan, condition, depth)?];
        while scan.eat("||") {
            read.push(Self::all(scan, condition, depth)?);
        }
        Ok(single(read).unwrap_or_else(Logic::Any))
    }

    fn all(
        scan: &mut Scan<'_>,
        condition: Reader<'_, C>,
        depth: usize,
    ) -> Result<Self, PatternError> {
        let mut read = vec![Self::one(scan, condition, depth)?];
        while scan.eat("&&") {
            read.push(Self::one(scan, condition, depth)?);
        }
        Ok(single(read).unwrap_or_else(Logic::All))
    }

    /// Spaces around it are read too.
    fn one(
        scan: &mut Scan<'_>,
        condition: Reader<'_, C>,
        depth: usize,
    ) -> Result<Self, PatternError> {
        scan.skip_spaces();
        let read = if scan.eat("(") {
            if depth == DEPTH_MAX {
                return Err(scan.fail(format!(
                    "parentheses can be nested {DEPTH_MAX} deep at most."
                )));
            }
            let inner = Self::any(scan, condition, depth + 1)?;
            scan.expect(")")?;
            inner
        } else {
            Logic::One(condition(scan)?)
        };
        scan.skip_spaces();
        Ok(read)
    }

    pub(super) fn holds(&self, is_met: &impl Fn(&C) -> bool) -> bool {
        match self {
            Logic::All(all) => all.iter().all(|one| one.holds(is_met)),
            Logic::Any(any) => any.iter().any(|one| one.holds(is_met)),
            Logic::One(condition) => is_met(condition),
        }
    }
}

/// The only one, or else all again.
fn single<C>(mut read: Vec<Logic<C>>) -> Result<Logic<C>, Vec<Logic<C>>> {
    match read.pop() {
        Some(only) if read.is_empty() => Ok(only),
        Some(last) => {
            read.push(last);
            Err(read)
        }
        None => Err(read),
    }
}
