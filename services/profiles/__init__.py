"""profiles: who a member is, what is known of them, and how they may be reached.

owns      identity (senders, links, merges), traits, consents with their ledger, suppressions,
          preferences, activity; state on rondo.identities.v1
consumes  rondo.events, links, routed, inbound, deliveries, engagement, commands
emits     rondo.member-events, profiles, contacts, consents; to itself rondo.links, routed
serves    gRPC ProfilesService (Get, BatchGet, Lookup, ListMembers)

One process, two roles (STREAMS 16). The *router* owns a sender's partition: it drops repeats and
knows which member a sender belongs to. The *keeper* owns a member's partition: it applies what
happens, and folds the fragments of merged members into one profile. Where sender and member are
the same id, which is nearly always, both act in one step.

Limits, each counted under its reason as a drop: a trait (name and value) of more than 2 KB
(`trait_too_large`); more than 200 traits a member (`too_many_traits`: known names and the ones of
`model.CONTACT_TRAITS` are still taken); more than 200 groups (`too_many_groups`) or 100 identifiers
of a kind (`too_many_identifiers`); 65,536 messageIds of a sender in a quarter of 7 days
(`dedupe_window_cut`: the oldest is forgotten). Event counts are kept for the 100 most recent names.

The activity figures of a record on rondo.profiles.v1 are those of the moment it was written, which
is when anything else of the profile changed; gRPC answers with the present ones.
"""
