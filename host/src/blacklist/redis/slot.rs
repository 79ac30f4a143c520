//! Owns the one connection that everybody shares: it is made when it is first needed, once however
//! many ask for it, and made anew after it has failed, but not at once again and again.

use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared},
};

use super::error::StoreError;

/// No two attempts to connect begin within this time.
const GAP: Duration = Duration::from_millis(100);

/// Making a connection.
pub(super) type Connecting<C> = BoxFuture<'static, Result<C, StoreError>>;

/// Room for one connection.
pub(super) struct Slot<C> {
    current: Mutex<Option<Attempt<C>>>,
}

/// A connection to use, and to hand back if it turns out to be broken.
#[derive(Debug, Clone)]
pub(super) struct Lease<C> {
    pub(super) connection: C,
    id: u64,
}

struct Attempt<C> {
    id: u64,
    began: Instant,
    progress: Progress<C>,
}

enum Progress<C> {
    /// Under way, or done: what is shared keeps its result. It advances while anybody waits for it,
    /// and stays where it is when all who wait have given up.
    Connecting(Shared<Connecting<C>>),
    /// It was a connection once.
    Broken(StoreError),
}

// === impl Slot ===

impl<C: Clone> Slot<C> {
    pub(super) const fn new() -> Self {
        Self { current: Mutex::new(None) }
    }

    /// The connection, by way of `connect` if there is none.
    pub(super) async fn get(
        &self,
        connect: impl FnOnce() -> Connecting<C>,
    ) -> Result<Lease<C>, StoreError> {
        let (id, connecting) = self.attempt(Instant::now(), connect)?;
        let connection = connecting.await?;
        Ok(Lease { connection, id })
    }

    /// Gives up the connection of `lease`, unless somebody did before.
    pub(super) fn discard(&self, lease: &Lease<C>, why: StoreError) {
        let mut current = self.lock();
        if let Some(attempt) = current.as_mut().filter(|attempt| attempt.id == lease.id) {
            attempt.progress = Progress::Broken(why);
        }
    }

    fn attempt(
        &self,
        now: Instant,
        connect: impl FnOnce() -> Connecting<C>,
    ) -> Result<(u64, Shared<Connecting<C>>), StoreError> {
        let mut current = self.lock();
        let mut id = 0;
        if let Some(attempt) = &*current {
            match attempt.progress.usable() {
                Ok(connecting) => return Ok((attempt.id, connecting)),
                Err(why) if now < attempt.began + GAP => return Err(why),
                Err(_) => id = attempt.id + 1,
            }
        }
        let connecting = connect().shared();
        let progress = Progress::Connecting(connecting.clone());
        *current = Some(Attempt { id, began: now, progress });
        Ok((id, connecting))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Attempt<C>>> {
        // Whatever panicked, an attempt is replaced as a whole.
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<C> fmt::Debug for Slot<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Slot")
    }
}

// === impl Progress ===

impl<C: Clone> Progress<C> {
    fn usable(&self) -> Result<Shared<Connecting<C>>, StoreError> {
        match self {
            Self::Connecting(connecting) => match connecting.peek() {
                Some(Err(why)) => Err(why.clone()),
                Some(Ok(_)) | None => Ok(connecting.clone()),
            },
            Self::Broken(why) => Err(why.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    };

    use futures_util::future::join_all;

    use super::*;

    /// Counts the attempts, and numbers the connections.
    #[derive(Default, Clone)]
    struct Server(Arc<AtomicU32>);

    impl Server {
        fn connect(&self, works: bool) -> Connecting<u32> {
            let number = self.0.fetch_add(1, SeqCst);
            async move {
                tokio::task::yield_now().await;
                if works { Ok(number) } else { Err(StoreError::Moved) }
            }
            .boxed()
        }

        fn attempts(&self) -> u32 {
            self.0.load(SeqCst)
        }
    }

    async fn eventually_get(slot: &Slot<u32>, server: &Server) -> Lease<u32> {
        loop {
            if let Ok(lease) = slot.get(|| server.connect(true)).await {
                return lease;
            }
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn many_who_need_a_connection_make_one() {
        let (slot, server) = (Slot::new(), Server::default());
        let leases = join_all((0..100).map(|_| slot.get(|| server.connect(true)))).await;
        assert!(leases.into_iter().all(|lease| lease.unwrap().connection == 0));
        assert_eq!(server.attempts(), 1);
    }

    #[tokio::test]
    async fn an_attempt_that_all_gave_up_waiting_for_goes_on_when_somebody_waits_again() {
        let (slot, server) = (Slot::new(), Server::default());
        let mut impatient = Box::pin(slot.get(|| server.connect(true)));
        assert!(futures_util::poll!(&mut impatient).is_pending());
        drop(impatient);
        assert_eq!(slot.get(|| server.connect(true)).await.unwrap().connection, 0);
        assert_eq!(server.attempts(), 1);
    }

    #[tokio::test]
    async fn a_server_that_is_down_is_not_asked_again_at_once() {
        let (slot, server) = (Slot::<u32>::new(), Server::default());
        let start = Instant::now();
        let attempt = |after| slot.attempt(start + after, || server.connect(false));
        let (_, connecting) = attempt(Duration::ZERO).unwrap();
        assert_eq!(connecting.await, Err(StoreError::Moved));
        assert_eq!(attempt(GAP / 2).err(), Some(StoreError::Moved));
        assert_eq!(server.attempts(), 1);
        assert!(attempt(GAP).is_ok());
        assert_eq!(server.attempts(), 2);
    }

    #[tokio::test]
    async fn a_broken_connection_is_replaced_once_however_many_saw_it_break() {
        let (slot, server) = (Slot::new(), Server::default());
        let first = slot.get(|| server.connect(true)).await.unwrap();
        slot.discard(&first, StoreError::Moved);
        let second = eventually_get(&slot, &server).await;
        assert_eq!(second.connection, 1);
        slot.discard(&first, StoreError::Moved);
        assert_eq!(slot.get(|| server.connect(true)).await.unwrap().connection, 1);
        assert_eq!(server.attempts(), 2);
    }
}
