//! Orders about tokens: judged before they join a transaction that others share.

use crate::domain::token::{Token, TokenOrder, TokenRefusal};
use crate::master::batch::Batch;
use crate::master::event::Refused;
use crate::store::Store;
use crate::store::error::StoreError;

/// Adds an order to the turn, unless it could only fail: one that fails in the transaction takes
/// everybody else's part of it along.
pub(super) fn add(order: TokenOrder, batch: &mut Batch, store: &Store) -> Result<(), Refused> {
    let token = find(order.id(), batch, store)
        .map_err(|error| Refused { reason: "StoreFailed", message: error.to_string() })?;
    order.carry_out(token).map_err(|refusal| refused(order.id(), refusal))?;
    batch.beside.tokens.push(order);
    Ok(())
}

/// The order, in words for the audit.
pub(super) fn text(order: &TokenOrder) -> String {
    match order {
        TokenOrder::Create(token) => {
            format!("token {} for {}, role {}", token.id, token.name, token.role.as_str())
        }
        TokenOrder::Revoke { id } => format!("that token {id} is revoked"),
        TokenOrder::Spend { id } => format!("a use of token {id}"),
    }
}

/// The token as the turn's orders so far leave it.
fn find(id: &str, batch: &Batch, store: &Store) -> Result<Option<Token>, StoreError> {
    let of_this = batch.beside.tokens.iter().filter(|order| order.id() == id);
    // Those before it were judged the same way: none of them is refused now.
    Ok(of_this.fold(store.token(id)?, |token, order| order.carry_out(token).ok()))
}

fn refused(id: &str, refusal: TokenRefusal) -> Refused {
    let reason = match refusal {
        TokenRefusal::Exists => "AlreadyExists",
        TokenRefusal::Unknown => "NotFound",
        TokenRefusal::Spent => "TokenRefused",
    };
    Refused { reason, message: format!("token {id}: {refusal}") }
}
