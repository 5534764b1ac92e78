//! A rate limit for what others can make this host do.

/// Allows so many actions a second, and a burst of as many.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    per_second: u32,
    /// What may be done at once, in thousandths of an action.
    left: u64,
    then_ms: u64,
}

impl Limit {
    /// A limit of `per_second` actions.
    pub const fn new(per_second: u32) -> Self {
        Limit { per_second, left: per_second as u64 * 1000, then_ms: 0 }
    }

    /// Whether one more may be done at `now_ms`; if so, it counts as done.
    pub fn allows(&mut self, now_ms: u64) -> bool {
        let full = u64::from(self.per_second) * 1000;
        let passed = now_ms.saturating_sub(self.then_ms);
        self.then_ms = self.then_ms.max(now_ms);
        self.left = full.min(self.left.saturating_add(passed.saturating_mul(self.per_second.into())));
        let allowed = self.left >= 1000;
        if allowed {
            self.left -= 1000;
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_allows_its_share_and_time_going_back_gives_nothing() {
        let mut limit = Limit::new(10);
        let mut done = |ms| (0..100).filter(|_| limit.allows(ms)).count();
        assert_eq!(done(5000), 10);
        assert_eq!(done(5000), 0);
        assert_eq!(done(5100), 1);
        assert_eq!(done(5099), 0);
        assert_eq!(done(5300), 2);
        assert_eq!(done(u64::MAX), 10);
    }
}
