mod cut;
mod everywhere;
mod hostile;
mod kinds;
mod link;
mod script;
