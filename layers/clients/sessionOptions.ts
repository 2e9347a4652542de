/**
 * Settings of every session of the product, as the startup parameter `options`. Probes after 3 s of silence and 9 s for
 * data to be acknowledged, so that a vanished process holds no lock for long. No statement is compiled: they are all
 * short, and where the planner sets a high cost on one, compiling it takes longer than running it.
 */
const settings = {
  tcp_keepalives_idle: 3,
  tcp_keepalives_interval: 2,
  tcp_keepalives_count: 3,
  tcp_user_timeout: 9000,
  jit: "off",
}

export const sessionOptions = Object.entries(settings)
  .map(([name, value]) => `-c ${name}=${value}`)
  .join(" ")

/**
 * A column for a query at the start of each session: what is acknowledged is durable, though the database or the role
 * has `synchronous_commit = off`. Every other choice of the operator stays, such as `remote_apply` or `local`.
 */
export const durable = `
  case current_setting('synchronous_commit') when 'off' then set_config('synchronous_commit', 'on', false) end`
