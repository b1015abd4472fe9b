//! A file in hand: one connection, what is certain about it, and how operations see it.
//!
//! After an error of the file, or a panic halfway through a change, a handle is broken and every call is
//! [`Error::Closed`]. The log is copied into the file by us, now and then and at a clean end.

use std::cell::RefCell;

use rusqlite::{Connection, Params};

use super::statement::Sql;
use super::statements::Statement;
use super::{Error, Result, Space, file, from_sqlite, id_of};
use crate::base::name::TenantName;
use crate::base::time::Timestamp;

/// When the log of a file is copied into it.
#[derive(Clone, Copy, Debug)]
pub(super) struct LogRule {
    /// After so many bytes, roughly.
    pub(super) bytes: u64,
    /// What a changed row and its indexes take in the log, at most or so.
    pub(super) bytes_a_change: u64,
    /// What a commit takes besides.
    pub(super) bytes_a_commit: u64,
}

/// A file in hand: one connection, one user at a time.
pub(super) struct Handle {
    pub(super) connection: Connection,
    space: Space,
    /// When the log is copied; never by one that only reads.
    log: Option<LogRule>,
    /// Why it cannot be used any more. A cell, because reading finds that out too.
    pub(super) broken: RefCell<Option<String>>,
    commits: u64,
    /// Bytes in the log, roughly, since it was last copied into the file.
    log_bytes: u64,
}

impl Handle {
    pub(super) fn new(connection: Connection, space: Space, log: Option<LogRule>) -> Handle {
        // What an earlier process left in the log is copied with the first commit.
        let log_bytes = log.map_or(0, |rule| rule.bytes);
        Handle { connection, space, log, broken: RefCell::new(None), commits: 0, log_bytes }
    }

    /// Why it cannot be used any more, if so.
    pub(super) fn broken(&self) -> Option<String> {
        self.broken.borrow().clone()
    }

    /// Space that is certain: a commit writes a page to the log, and later the same page to the file.
    pub(super) fn margin_bytes(&self) -> u64 {
        (self.space)() / 2
    }

    /// The size of the file, without its log.
    pub(super) fn file_bytes(&self) -> u64 {
        if self.broken.borrow().is_some() { 0 } else { file::bytes(&self.connection) }
    }

    /// Commits made since it was opened.
    pub(super) fn commits(&self) -> u64 {
        self.commits
    }

    /// Runs `body` in a transaction: committed when it is `Ok`, undone when it is not.
    pub(super) fn transaction<T>(&mut self, body: impl FnOnce(&Tx<'_>) -> Result<T>) -> Result<T> {
        if self.broken.get_mut().is_some() {
            return Err(Error::Closed);
        }
        // Stands when a panic comes through: nobody knows then what is half done.
        *self.broken.get_mut() = Some("an operation did not end".to_owned());
        let before = self.connection.total_changes();
        let result = attempt(&Tx { connection: &self.connection }, body);
        *self.broken.get_mut() = why_broken(&result);
        let changes = self.connection.total_changes() - before;
        if result.is_ok() && changes != 0 {
            self.commits += 1;
            self.keep_log_short(changes);
        }
        result
    }

    /// Runs `body`, which changes nothing. All of its statements see one state: a number that the first
    /// one finds means the same to the next.
    pub(super) fn read<T>(&self, body: impl FnOnce(&Tx<'_>) -> Result<T>) -> Result<T> {
        if self.broken.borrow().is_some() {
            return Err(Error::Closed);
        }
        let tx = Tx { connection: &self.connection };
        let result = tx.run(Statement::BeginRead, []).and_then(|_| {
            let result = body(&tx);
            let end = tx.run(Statement::Rollback, []);
            result.and_then(|value| end.map(|_| value))
        });
        self.broken.replace(why_broken(&result));
        result
    }

    /// Copies the log into the file now and then. What was committed is safe whatever comes of it; an
    /// error breaks the handle, because the next attempt might skip what this one lost.
    fn keep_log_short(&mut self, changes: u64) {
        let Some(rule) = self.log else { return };
        self.log_bytes += rule.bytes_a_commit + rule.bytes_a_change * changes;
        if self.log_bytes < rule.bytes {
            return;
        }
        self.log_bytes = 0;
        if let Err(error) = file::checkpoint(&self.connection) {
            *self.broken.get_mut() = Some(error.to_string());
        }
    }
}

/// A handle that is sound leaves a short log behind. Nothing depends on it.
impl Drop for Handle {
    fn drop(&mut self) {
        if self.log.is_some()
            && self.broken.get_mut().is_none()
            && let Err(error) = file::checkpoint(&self.connection)
        {
            tracing::warn!(%error, "the catalog's log could not be copied at the end");
        }
    }
}

fn why_broken<T>(result: &Result<T>) -> Option<String> {
    match result {
        Err(error) if error.breaks_handle() => Some(error.to_string()),
        Err(_) | Ok(_) => None,
    }
}

fn attempt<T>(tx: &Tx<'_>, body: impl FnOnce(&Tx<'_>) -> Result<T>) -> Result<T> {
    tx.run(Statement::Begin, [])?;
    match body(tx) {
        Ok(value) => {
            let commit = tx.run(Statement::Commit, []);
            commit.map_err(|error| Error::CommitFailed(error.to_string()))?;
            Ok(value)
        }
        // The connection will be closed, which undoes it.
        Err(error) if error.breaks_handle() => Err(error),
        Err(error) => {
            tx.run(Statement::Rollback, [])?;
            Err(error)
        }
    }
}

/// A transaction, as operations see it: registered statements and typed rows.
pub(super) struct Tx<'c> {
    pub(super) connection: &'c Connection,
}

impl Tx<'_> {
    /// Runs a statement; how many rows it changed.
    pub(super) fn run(&self, statement: impl Sql, params: impl Params) -> Result<u64> {
        let changed = statement.prepare(self.connection)?.execute(params);
        changed.map(|rows| rows as u64).map_err(|error| from_sqlite(statement.name(), &error))
    }

    /// Every row of a statement that has a bound.
    pub(super) fn all<T>(
        &self,
        statement: impl Sql,
        params: impl Params,
        read: impl Fn(&Row<'_, '_>) -> Result<T>,
    ) -> Result<Vec<T>> {
        let sql = |error: rusqlite::Error| from_sqlite(statement.name(), &error);
        let mut prepared = statement.prepare(self.connection)?;
        let mut rows = prepared.query(params).map_err(sql)?;
        let mut all = Vec::new();
        while let Some(row) = rows.next().map_err(sql)? {
            all.push(read(&Row { row, name: statement.name() })?);
        }
        Ok(all)
    }

    /// The row of a statement that gives one at most.
    pub(super) fn one<T>(
        &self,
        statement: impl Sql,
        params: impl Params,
        read: impl Fn(&Row<'_, '_>) -> Result<T>,
    ) -> Result<Option<T>> {
        self.all(statement, params, read).map(|rows| rows.into_iter().next())
    }

    /// Rows of a table that is counted.
    pub(super) fn count(&self, table: &'static str) -> Result<u64> {
        let amount = self.one(Statement::CountOf, [table], |row| row.int(0))?;
        let amount = amount.ok_or_else(|| Error::BadRow(format!("no count of {table}")))?;
        u64::try_from(amount).map_err(|_| Error::BadRow(format!("{amount} {table}")))
    }
}

/// A row on its way to a type.
pub(super) struct Row<'r, 's> {
    row: &'r rusqlite::Row<'s>,
    /// The name of the statement that gave it.
    name: &'static str,
}

impl Row<'_, '_> {
    pub(super) fn get<T: rusqlite::types::FromSql>(&self, column: usize) -> Result<T> {
        self.row.get(column).map_err(|error| from_sqlite(self.name, &error))
    }

    pub(super) fn int(&self, column: usize) -> Result<i64> {
        self.get(column)
    }

    /// A number within the bounds of its type, which are never below zero.
    pub(super) fn unsigned<T: TryFrom<i64>>(&self, column: usize) -> Result<T> {
        let number = self.int(column)?;
        T::try_from(number).map_err(|_| self.bad(format!("{number} in column {column}")))
    }

    pub(super) fn id(&self, column: usize) -> Result<u64> {
        self.int(column).map(id_of)
    }

    pub(super) fn text(&self, column: usize) -> Result<String> {
        self.get(column)
    }

    pub(super) fn moment(&self, column: usize) -> Result<Timestamp> {
        let ms = self.int(column)?;
        Timestamp::from_unix_ms(ms).ok_or_else(|| self.bad(ms))
    }

    pub(super) fn moment_or_none(&self, column: usize) -> Result<Option<Timestamp>> {
        match self.get::<Option<i64>>(column)? {
            Some(ms) => Timestamp::from_unix_ms(ms).map(Some).ok_or_else(|| self.bad(ms)),
            None => Ok(None),
        }
    }

    pub(super) fn tenant_name(&self, column: usize) -> Result<TenantName> {
        let text = self.text(column)?;
        TenantName::parse(&text).map_err(|error| self.bad(error))
    }

    pub(super) fn bad(&self, what: impl std::fmt::Display) -> Error {
        Error::BadRow(format!("{}: {what}", self.name))
    }
}
