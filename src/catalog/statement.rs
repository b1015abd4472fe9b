//! What a statement is: something with a name and a text, from a list that a test goes through.

use rusqlite::{CachedStatement, Connection};

use super::{Result, from_sqlite};

/// A statement that is run again and again.
pub(super) trait Sql: Copy {
    /// Its name, for messages.
    fn name(self) -> &'static str;

    /// Its text.
    fn sql(self) -> &'static str;

    /// The statement, ready to run; prepared once for each connection.
    fn prepare(self, connection: &Connection) -> Result<CachedStatement<'_>> {
        connection.prepare_cached(self.sql()).map_err(|error| from_sqlite(self.name(), &error))
    }
}

/// The list of a file's statements: an enum, and all of them.
macro_rules! statements {
    ($($statement:ident, $name:literal, $sql:expr;)*) => {
        /// A statement that is run again and again.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(in crate::catalog) enum Statement {
            $(
                #[doc = concat!("`", $name, "`")]
                $statement,
            )*
        }

        impl Statement {
            /// Every statement.
            pub(in crate::catalog) const ALL: &[Statement] = &[$(Statement::$statement,)*];
        }

        impl $crate::catalog::statement::Sql for Statement {
            fn name(self) -> &'static str {
                match self {
                    $(Statement::$statement => $name,)*
                }
            }

            fn sql(self) -> &'static str {
                match self {
                    $(Statement::$statement => $sql,)*
                }
            }
        }
    };
}

pub(super) use statements;
