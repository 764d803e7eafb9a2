//! One unary call: which endpoint it goes to, whether it may be sent again, and its deadline.

use std::fmt;
use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};
use tracing::{Instrument as _, Span};

use crate::auth::{Auth, Token};
use crate::backoff::{Backoff, Pauses};
use crate::endpoint::{Class, Connection, Endpoint, Pool};
use crate::error::{Error, ErrorKind, Result};
use crate::fault::{Fault, Verdict};
use crate::floor::Floor;
use crate::members::Upkeep;
use crate::observe::{Counter, Observer};
use crate::random::Random;
use crate::status::Traffic;
use crate::{runtime, spans};

/// etcd's answers have no size limit, so neither has what is accepted.
pub(crate) const NO_LIMIT: usize = usize::MAX;

/// Makes the generated stub of a service over a connection.
macro_rules! stub {
    ($stub:ty, $channel:expr) => {
        <$stub>::new($channel)
            .max_decoding_message_size($crate::call::NO_LIMIT)
            .max_encoding_message_size($crate::call::NO_LIMIT)
    };
}
pub(crate) use stub;

/// What all parts of a client share.
pub(crate) struct Core {
    pub(crate) pool: Pool,
    pub(crate) auth: Auth,
    pub(crate) backoff: Backoff,
    pub(crate) call_timeout: Option<Duration>,
    pub(crate) random: Mutex<Random>,
    pub(crate) observer: Observer,
    pub(crate) traffic: Traffic,
    pub(crate) upkeep: Upkeep,
    /// How often a watch stream may be moved to an endpoint that came back.
    pub(crate) rebalance: Option<Duration>,
    /// What reads do not go behind.
    pub(crate) floor: Floor,
    /// Where leases are kept alive; `None` for where each is granted.
    pub(crate) lease_runtime: Option<Handle>,
    /// Calls are about the one member there is: they go to it in whatever trouble it is.
    pub(crate) pinned: bool,
}

/// How often a call may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// It changes nothing, or the same if it is sent twice.
    Repeatable,
    /// It is sent again only if it surely did not happen.
    Once,
    /// It changes something, and of several sendings at most one does: the others find the state changed
    /// that it names.
    Guarded,
}

/// How long a call may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// All its tries and pauses together.
    pub(crate) call: Option<Duration>,
    /// One try of a call that may be sent again.
    pub(crate) one_try: Duration,
}

impl Patience {
    /// For calls whose end nobody can foresee. Pings find a server that is gone.
    pub(crate) fn without_end() -> Patience {
        Patience { call: None, one_try: Duration::from_secs(24 * 60 * 60) }
    }
}

/// The answer to a call.
pub(crate) struct Answered<A> {
    pub(crate) answer: A,
    pub(crate) connection: Connection,
    /// An earlier sending may have taken effect. Only of a guarded call.
    pub(crate) unsure: bool,
}

/// The least pause before a server that has too much to do is asked again.
const BUSY_PAUSE: Duration = Duration::from_millis(100);

impl Core {
    /// Runs a call under the client's deadline. `send` is called for every try.
    ///
    /// Cancel safe as far as anything is kept here: nothing is. A call with an effect may have had it.
    pub(crate) async fn call<Q, A, F, Fut>(
        &self,
        class: Class,
        effect: Effect,
        message: Q,
        send: F,
    ) -> Result<(A, Connection)>
    where
        Q: Clone,
        F: Fn(Channel, Request<Q>) -> Fut,
        Fut: Future<Output = std::result::Result<Response<A>, Status>>,
    {
        let answered = self.answered(class, effect, message, send).await?;
        Ok((answered.answer, answered.connection))
    }

    /// As [`call`](Self::call), for those that may be guarded.
    pub(crate) async fn answered<Q, A, F, Fut>(
        &self,
        class: Class,
        effect: Effect,
        message: Q,
        send: F,
    ) -> Result<Answered<A>>
    where
        Q: Clone,
        F: Fn(Channel, Request<Q>) -> Fut,
        Fut: Future<Output = std::result::Result<Response<A>, Status>>,
    {
        self.answered_within(self.patience(), class, effect, message, send).await
    }

    /// As [`answered`](Self::answered), under another deadline than the client's.
    pub(crate) async fn answered_within<Q, A, F, Fut>(
        &self,
        patience: Patience,
        class: Class,
        effect: Effect,
        message: Q,
        send: F,
    ) -> Result<Answered<A>>
    where
        Q: Clone,
        F: Fn(Channel, Request<Q>) -> Fut,
        Fut: Future<Output = std::result::Result<Response<A>, Status>>,
    {
        runtime::current()?;
        let deadline = patience.call.map(|timeout| Instant::now() + timeout);
        let span = spans::call::<Q>();
        let mut attempt = Attempt::new(effect, patience.one_try, self.backoff.start(), span.clone());
        self.upkeep.begin();
        self.observer.count(Counter::Calls, 1);
        let tries = async {
            loop {
                match self.within(deadline, &mut attempt, class, &message, &send).await {
                    Ok((answer, connection)) => return Ok(Answered { answer, connection, unsure: attempt.unsure }),
                    Err(fault) => attempt.judge(self, &fault, deadline).await?,
                }
            }
        };
        tries.instrument(span).await
    }

    /// One try.
    async fn within<Q, A, F, Fut>(
        &self,
        deadline: Option<Instant>,
        attempt: &mut Attempt,
        class: Class,
        message: &Q,
        send: &F,
    ) -> std::result::Result<(A, Connection), Fault>
    where
        Q: Clone,
        F: Fn(Channel, Request<Q>) -> Fut,
        Fut: Future<Output = std::result::Result<Response<A>, Status>>,
    {
        attempt.sent_to = None;
        let token = match until(deadline, self.auth.token(&self.pool, attempt.refused.take())).await {
            Some(token) => token?,
            None => return Err(Fault::DeadlineExceeded),
        };
        let Some(connection) = until(deadline, self.connection(class, attempt.avoid)).await else {
            return Err(Fault::DeadlineExceeded);
        };
        let connection = connection?;
        let mut request = Request::new(message.clone());
        token.sign(&mut request);
        attempt.token = Some(token);
        // The only try of a write has all the time there is: when it passes, the outcome is unknown.
        let limit = (attempt.effect != Effect::Once).then(|| Instant::now() + attempt.one_try);
        let due = [limit, deadline].into_iter().flatten().min();
        if let Some(due) = due {
            request.set_timeout(due.saturating_duration_since(Instant::now()));
        }
        attempt.count += 1;
        self.observer.count(Counter::Retries, u64::from(attempt.count > 1));
        attempt.sent_to = Some(connection.clone());
        spans::sent(&attempt.span, &connection.endpoint, attempt.count);
        match until(due, send(connection.channel.clone(), request)).await {
            Some(Ok(response)) => {
                self.pool.succeeded(&connection);
                Ok((response.into_inner(), connection))
            }
            Some(Err(status)) => Err(connection.fault(&status)),
            None => Err(Fault::DeadlineExceeded),
        }
    }

    async fn connection(&self, class: Class, avoid: Option<usize>) -> std::result::Result<Connection, Fault> {
        if self.pinned { self.pool.first(class).await } else { Ok(self.pool.connection(class, avoid).await) }
    }

    /// For calls about one member.
    pub(crate) fn narrowed(&self, endpoint: &Endpoint) -> Core {
        Core {
            pool: self.pool.narrowed(endpoint.clone(), self.backoff, self.fork_random()),
            auth: self.auth.anew(),
            backoff: self.backoff,
            call_timeout: self.call_timeout,
            random: Mutex::new(self.fork_random()),
            observer: self.observer.clone(),
            traffic: Traffic::default(),
            upkeep: Upkeep::new(None),
            rebalance: None,
            // It is about what this member has, however old that is.
            floor: Floor::default(),
            lease_runtime: self.lease_runtime.clone(),
            pinned: true,
        }
    }

    /// Whether an endpoint can be reached and the credentials are good.
    pub(crate) async fn check(&self) -> Result<()> {
        runtime::current()?;
        let deadline = self.call_timeout.map(|timeout| Instant::now() + timeout);
        self.upkeep.begin();
        let checked = async {
            self.auth.token(&self.pool, None).await.map_err(|fault| Error::from_fault(&fault, false))?;
            self.pool.connection(Class::Call, None).await;
            Ok(())
        };
        match until(deadline, checked).await {
            Some(checked) => checked,
            None => Err(match self.pool.why_unavailable() {
                Some(why) => why,
                None => Error::new(ErrorKind::DeadlineExceeded),
            }),
        }
    }

    /// What a call has by default.
    pub(crate) fn patience(&self) -> Patience {
        Patience { call: self.call_timeout, one_try: self.pool.try_timeout() }
    }

    /// For a loop of its own.
    pub(crate) fn fork_random(&self) -> Random {
        self.random.lock().unwrap_or_else(PoisonError::into_inner).fork()
    }

    pub(crate) fn pause(&self, pauses: &mut Pauses) -> Duration {
        pauses.after_failure(&mut self.random.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What is known from the tries so far.
struct Attempt {
    effect: Effect,
    one_try: Duration,
    pauses: Pauses,
    count: u32,
    /// Where the running try went; `None` while nothing has been sent.
    sent_to: Option<Connection>,
    avoid: Option<usize>,
    token: Option<Token>,
    /// The number of a token that was refused just now.
    refused: Option<u64>,
    refreshed: bool,
    /// A try that changes something ended without an answer.
    unsure: bool,
    span: Span,
}

impl Attempt {
    fn new(effect: Effect, one_try: Duration, pauses: Pauses, span: Span) -> Attempt {
        Attempt {
            effect,
            one_try,
            pauses,
            count: 0,
            sent_to: None,
            avoid: None,
            token: None,
            refused: None,
            refreshed: false,
            unsure: false,
            span,
        }
    }

    /// Whether to try again: if so, the pause before that is over when this returns.
    async fn judge(&mut self, core: &Core, fault: &Fault, deadline: Option<Instant>) -> Result<()> {
        let verdict = fault.verdict();
        if let (Some(connection), Verdict::Elsewhere(Some(trouble))) = (&self.sent_to, &verdict)
            && !overdue(deadline)
        {
            core.pool.failed(connection, trouble.clone());
        }
        self.unsure |= self.wrote() && fault.may_have_applied();
        if (self.unsure && self.effect == Effect::Once) || overdue(deadline) {
            return Err(self.error(core, fault));
        }
        match verdict {
            Verdict::Final => return Err(self.error(core, fault)),
            Verdict::NewToken if self.refreshed || !core.auth.has_credentials() => {
                return Err(self.error(core, fault));
            }
            Verdict::NewToken => {
                self.refreshed = true;
                self.refused = self.token.take().map(|token| token.number);
                return Ok(());
            }
            Verdict::Elsewhere(_) => self.avoid = self.sent_to.as_ref().map(|c| c.index),
            Verdict::Later => {}
        }
        let mut pause = core.pause(&mut self.pauses);
        if verdict == Verdict::Later {
            pause = pause.max(BUSY_PAUSE) * 2;
        }
        match until(deadline, tokio::time::sleep(pause)).await {
            Some(()) => Ok(()),
            None => Err(self.error(core, fault)),
        }
    }

    /// The running try was sent, and can change something.
    fn wrote(&self) -> bool {
        self.effect != Effect::Repeatable && self.sent_to.is_some()
    }

    fn error(&self, core: &Core, fault: &Fault) -> Error {
        let error = match (&self.sent_to, core.pool.why_unavailable()) {
            // The deadline passed in a wait for an endpoint: what they ran into says more.
            (None, Some(why)) if matches!(fault, Fault::DeadlineExceeded) => why,
            _ => Error::from_fault(fault, self.wrote()),
        };
        let error = if self.unsure { error.ambiguous() } else { error };
        let error = error.after(self.count);
        match &self.sent_to {
            Some(connection) => error.at(&connection.endpoint),
            None => error,
        }
    }
}

fn overdue(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|deadline| deadline <= Instant::now())
}

/// `None` when the deadline passed first.
async fn until<T>(deadline: Option<Instant>, future: impl Future<Output = T>) -> Option<T> {
    match deadline {
        None => Some(future.await),
        Some(deadline) => tokio::time::timeout_at(deadline, future).await.ok(),
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core").field("endpoints", &self.pool).field("auth", &self.auth).finish_non_exhaustive()
    }
}
