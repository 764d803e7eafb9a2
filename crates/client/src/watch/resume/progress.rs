//! When to ask a stream for a progress note, and what its silence means.

use std::time::Duration;

use tokio::time::Instant;

use crate::random::Random;

/// How often and how patiently a lane asks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProgressOptions {
    /// The mean time between two requests; each is drawn from within a sixth around it.
    pub(crate) interval: Duration,
    /// How long an answer may take.
    pub(crate) patience: Duration,
}

impl Default for ProgressOptions {
    fn default() -> ProgressOptions {
        ProgressOptions { interval: Duration::from_secs(30), patience: Duration::from_secs(10) }
    }
}

/// The requests on one stream.
#[derive(Debug)]
pub(crate) struct Progress {
    options: ProgressOptions,
    state: State,
    /// A note has come since the last watcher was created: the server has shown that it can answer with
    /// these watchers. Before that, silence only means that one of them is behind or starts later.
    caught_up: bool,
    /// Requests in a row after which nothing at all came.
    silences: u32,
    last_heard: Instant,
}

#[derive(Debug)]
enum State {
    Resting { until: Instant },
    Asked { at: Instant },
}

/// What is due.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Due {
    Nothing,
    Ask,
    /// The stream is dead, whatever its connection says.
    GiveUp,
}

/// A server that says nothing at all after so many requests is given up.
const SILENCES: u32 = 2;

impl Progress {
    pub(crate) fn new(options: ProgressOptions, now: Instant, random: &mut Random) -> Progress {
        let state = State::Resting { until: now + options.pause(random) };
        Progress { options, state, caught_up: false, silences: 0, last_heard: now }
    }

    /// Something came on the stream.
    pub(crate) fn heard(&mut self, now: Instant) {
        self.last_heard = now;
        self.silences = 0;
    }

    /// A watcher is created: an answer may take its time again.
    pub(crate) fn watcher_added(&mut self) {
        self.caught_up = false;
    }

    /// A requested note came.
    pub(crate) fn answered(&mut self, now: Instant, random: &mut Random) {
        self.caught_up = true;
        self.state = State::Resting { until: now + self.options.pause(random) };
    }

    /// The program asks for a note now.
    pub(crate) fn asked(&mut self, now: Instant) {
        self.state = State::Asked { at: now };
    }

    pub(crate) fn wake_at(&self) -> Instant {
        match self.state {
            State::Resting { until } => until,
            State::Asked { at } => at + self.options.patience,
        }
    }

    pub(crate) fn tick(&mut self, now: Instant) -> Due {
        if now < self.wake_at() {
            return Due::Nothing;
        }
        if let State::Asked { at } = self.state {
            // Events instead of a note: the server works, and a watcher of this stream is behind.
            let silent = self.caught_up && self.last_heard <= at;
            self.silences = if silent { self.silences + 1 } else { 0 };
            if self.silences >= SILENCES {
                return Due::GiveUp;
            }
        }
        self.state = State::Asked { at: now };
        Due::Ask
    }
}

impl ProgressOptions {
    fn pause(self, random: &mut Random) -> Duration {
        self.interval.mul_f64(5.0 / 6.0) + random.below(self.interval / 3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn progress() -> (Progress, Instant, Random) {
        let (now, mut random) = (Instant::now(), Random::seeded(5));
        (Progress::new(ProgressOptions::default(), now, &mut random), now, random)
    }

    /// Moves on to the next wake-up.
    fn next(progress: &mut Progress, now: &mut Instant) -> Due {
        *now = progress.wake_at();
        progress.tick(*now)
    }

    #[test]
    fn a_note_is_asked_for_every_half_minute_or_so() {
        let (mut progress, mut now, mut random) = progress();
        let start = now;
        for _ in 0..20 {
            assert_eq!(progress.tick(now), Due::Nothing);
            assert_eq!(next(&mut progress, &mut now), Due::Ask);
            progress.heard(now);
            progress.answered(now, &mut random);
        }
        let mean_s = now.duration_since(start).as_secs_f64() / 20.0;
        assert!((25.0..35.0).contains(&mean_s), "{mean_s}");
    }

    #[test]
    fn silence_after_a_first_note_is_the_end() {
        let (mut progress, mut now, mut random) = progress();
        assert_eq!(next(&mut progress, &mut now), Due::Ask);
        progress.heard(now);
        progress.answered(now, &mut random);
        assert_eq!(next(&mut progress, &mut now), Due::Ask);
        let asked = now;
        assert_eq!(next(&mut progress, &mut now), Due::Ask);
        assert_eq!(next(&mut progress, &mut now), Due::GiveUp);
        assert_eq!(now, asked + 2 * PATIENCE);
    }

    #[test]
    fn silence_is_borne_while_a_watcher_may_be_behind_or_events_come() {
        let (mut progress, mut now, mut random) = progress();
        assert!((0..50).all(|_| next(&mut progress, &mut now) == Due::Ask), "no note has come yet");
        progress.answered(now, &mut random);
        for _ in 0..50 {
            assert_eq!(next(&mut progress, &mut now), Due::Ask);
            progress.heard(now + Duration::from_millis(1));
        }
        progress.watcher_added();
        assert!((0..50).all(|_| next(&mut progress, &mut now) == Due::Ask), "the new one may be behind");
    }
}
