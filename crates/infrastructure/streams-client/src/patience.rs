use std::time::{Duration, Instant};

use crate::Error;

const PAUSE_MIN: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// How long something that fails is tried again: with longer and longer pauses, until nothing has succeeded since the first failure for so long.
#[derive(Debug)]
pub(crate) struct Patience {
    lasts: Duration,
    failing_since: Option<Instant>,
    pause: Duration,
}

impl Patience {
    pub(crate) fn new(lasts: Duration) -> Self {
        Self {
            lasts,
            failing_since: None,
            pause: PAUSE_MIN,
        }
    }

    /// Something has succeeded.
    pub(crate) fn renew(&mut self) {
        *self = Self::new(self.lasts);
    }

    /// # Errors
    /// It is over, or what failed does not pass.
    pub(crate) async fn wait(&mut self, why: Error) -> Result<(), Error> {
        let now = rt::now();
        let since = *self.failing_since.get_or_insert(now);
        if !why.is_passing() || now.duration_since(since) >= self.lasts {
            return Err(why);
        }
        // Between half of it and all, so that not all come back at once.
        let half = self.pause / 2;
        let jitter = half.mul_f64(crate::keys::fraction(rt::random_u64()));
        tokio::time::sleep(half + jitter).await;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        Ok(())
    }
}
