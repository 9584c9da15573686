//! A connection on loan, and how it goes back.

use std::{
    ops::{Deref, DerefMut},
    time::Duration,
};

use sqlx::{PgConnection, Postgres, pool::PoolConnection};

/// sqlx asks the server on each return; so long.
const RETURN: Duration = Duration::from_secs(1);

/// A connection on loan. Dropped in the middle of anything it is closed: sqlx would wait without limit for
/// the rest of the answer, and keep its place in the pool meanwhile.
pub struct Borrowed {
    connection: Option<PoolConnection<Postgres>>,
    returns: bool,
}

impl Borrowed {
    /// Goes back by itself until somebody keeps it.
    pub(super) const fn new(connection: PoolConnection<Postgres>) -> Self {
        Self { connection: Some(connection), returns: true }
    }

    /// From now on only [`Borrowed::give_back`] gives it back.
    pub(super) fn keep(&mut self) {
        self.returns = false;
    }

    /// Gives it back, clean.
    pub fn give_back(mut self) {
        self.returns = true;
    }
}

impl Deref for Borrowed {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        self.connection.as_deref().expect("taken only when dropped")
    }
}

impl DerefMut for Borrowed {
    fn deref_mut(&mut self) -> &mut PgConnection {
        self.connection.as_deref_mut().expect("taken only when dropped")
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        let Some(mut connection) = self.connection.take() else { return };
        if !self.returns || tokio::runtime::Handle::try_current().is_err() {
            connection.close_on_drop();
            return;
        }
        // sqlx asks the server on each return, without limit: ended here, its place is free again.
        let returned = connection.return_to_pool();
        crate::platform::lifecycle::spawn(async move {
            let _back_or_closed = tokio::time::timeout(RETURN, returned).await;
        });
    }
}
