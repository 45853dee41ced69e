mod calls;
mod guest;
mod hostile;
mod moving;
mod waiting;
