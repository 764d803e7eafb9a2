//! The task that renews one lease.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::LeaseId;
use crate::backoff::Pauses;
use crate::call::{Core, Patience};
use crate::error::{ErrorKind, Result};
use crate::lease::LeaseLoss;
use crate::lease::calls::{Granted, Renewed};
use crate::lease::renewal::{Renewal, Standing};

/// Keeps a lease alive until it is gone, or nobody wants it any more.
pub(super) struct Keeper {
    core: Arc<Core>,
    id: LeaseId,
    patience: Patience,
    pauses: Pauses,
    renewal: Renewal,
    standing: watch::Sender<Standing>,
    /// True once the lease is to be revoked; closed when the last handle is gone.
    unwanted: watch::Receiver<bool>,
}

/// What a handle of the lease holds.
pub(super) struct Ends {
    pub(super) standing: watch::Receiver<Standing>,
    pub(super) unwanted: watch::Sender<bool>,
}

type Call = Pin<Box<dyn Future<Output = Result<Renewed>> + Send>>;

/// The least time for one try of a renewal.
const SHORTEST_TRY: Duration = Duration::from_millis(250);

impl Keeper {
    pub(super) fn new(core: Arc<Core>, granted: Granted, sent: Instant) -> (Keeper, Ends) {
        let renewal = Renewal::new(granted.ttl, sent, core.fork_random());
        let standing = watch::Sender::new(renewal.standing());
        let (want, unwanted) = watch::channel(false);
        let ends = Ends { standing: standing.subscribe(), unwanted: want };
        // A member that does not answer must leave time to ask another.
        let one_try = core.pool.try_timeout().min((granted.ttl / 4).max(SHORTEST_TRY));
        let patience = Patience { call: Some(granted.ttl.max(one_try)), one_try };
        let pauses = core.backoff.start();
        (Keeper { core, id: granted.id, patience, pauses, renewal, standing, unwanted }, ends)
    }

    pub(super) async fn run(mut self) {
        if self.keep().await {
            self.end().await;
        }
    }

    /// Renews it. True when it is not wanted any more, false when it is gone.
    async fn keep(&mut self) -> bool {
        let mut call: Option<Call> = None;
        loop {
            let tick = self.renewal.tick(Instant::now());
            if tick.send {
                call = Some(self.renew());
            }
            if tick.tell {
                tracing::warn!(lease = %self.id, "lease not renewed in time");
                self.publish();
            }
            tokio::select! {
                biased;
                _ = self.unwanted.changed() => return true,
                renewed = pending_without(&mut call) => {
                    call = None;
                    self.renewed(renewed);
                    if self.renewal.standing().is_lost() {
                        return false;
                    }
                }
                () = sleep_until(self.renewal.wake()) => {}
            }
        }
    }

    fn renew(&self) -> Call {
        let (core, id, patience) = (self.core.clone(), self.id, self.patience);
        Box::pin(async move { core.renew(id, patience).await })
    }

    fn renewed(&mut self, renewed: Result<Renewed>) {
        match renewed {
            Ok(Renewed { ttl, sent }) => {
                self.pauses.reset();
                self.renewal.answered(sent, ttl);
            }
            Err(error) if *error.kind() == ErrorKind::LeaseNotFound => self.renewal.lost(LeaseLoss::Gone),
            Err(error) => {
                tracing::debug!(lease = %self.id, %error, "lease not renewed");
                let pause = self.core.pause(&mut self.pauses);
                self.renewal.failed(Instant::now(), pause);
            }
        }
        self.publish();
    }

    /// Revokes it: until it is gone while somebody waits for that, once if nobody does.
    async fn end(&mut self) {
        self.renewal.ending();
        self.publish();
        loop {
            match self.core.revoke(self.id).await {
                Ok(()) => return self.lost(LeaseLoss::Revoked),
                Err(error) if *error.kind() == ErrorKind::LeaseNotFound => return self.lost(LeaseLoss::Revoked),
                Err(error) => tracing::debug!(lease = %self.id, %error, "lease not revoked"),
            }
            let pause = self.core.pause(&mut self.pauses);
            tokio::select! {
                // Without a renewal it ends by itself.
                () = gone(&mut self.unwanted) => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    fn lost(&mut self, loss: LeaseLoss) {
        self.renewal.lost(loss);
        self.publish();
    }

    fn publish(&self) {
        // Also without a change of its own: the state follows from the time too.
        self.standing.send_replace(self.renewal.standing());
    }
}

/// Waits until the last handle is gone.
async fn gone(unwanted: &mut watch::Receiver<bool>) {
    while unwanted.changed().await.is_ok() {}
}

async fn pending_without(call: &mut Option<Call>) -> Result<Renewed> {
    match call {
        Some(call) => call.await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}
