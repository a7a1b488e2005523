# Time spent on chores and hobbies, in minutes and hours.

story minutes: chores, chores, hobby, hobby, parts

moves minutes: longer repeated_time/2 in_hours in_hours free_time/2! other_person/2!
moves hours: paid_hours

SPENT = How many minutes <does/did> {p} [spend|need][| in total| altogether]?

chores:
  p = person(); a = some(2, 45); n = some(2, 20); chore = pick(CHORES)
  say [It <takes/took> {p} {a} minutes to {chore}. {p.He} <has/had> to do this {n} times.
    |{p} <can/could> {chore} in {a} minutes. {p.He} <does/did> it {n} times.
    |{p} <needs/needed> {a} minutes to {chore}, and {p.he} <does/did> so {n} times.]
  v = a * n | {p} needs # minutes
  -> minutes | SPENT

hobby:
  p = person(); a = some(10, 90); d = some(2, 7); hobby = pick(HOBBIES)
  say [{p} <spends/spent> {a} minutes [a|every|each] day {hobby}. {p.He} <does/did> this for {d} days.
    |For {d} days, {p} <spends/spent> {a} minutes a day {hobby}.
    |{p} <spends/spent> {a} minutes {hobby} on each of {d} days.]
  v = a * d | {p} spends # minutes
  -> minutes | SPENT

parts:
  p = person(); a = some(10, 90); b = some(10, 90); x, y = sample(HOBBIES, 2); day = pick(WEEKDAYS)
  say [{p} <spends/spent> {a} minutes {x} and {b} minutes {y}.
    |[On {day}|After school], {p} <spends/spent> {a} minutes {x}, and then {b} minutes {y}.]
  v = a + b | {p} spends # minutes
  -> minutes | SPENT

longer:
  a = some(5, 60); x = pick(HOBBIES); y = pick(HOBBIES); then = then()
  say [{then}, {p.he} <spends/spent> {a} more minutes {x}.|{p.He} also <spends/spent> {a} minutes {y}.
    |{p.He} <takes/took> a break of {a} minutes, which counts too.]
  v = v + a | That makes # minutes
  -> minutes | SPENT

repeated_time:
  a = some(5, 40); n = some(2, 6); hobby = pick(HOBBIES); then = then()
  say [{then}, {p.he} <spends/spent> {a} minutes {hobby}, {n} times.
    |{p.He} also <has/had> {n} lessons of {a} minutes each.
    |{p.He} also <makes/made> {n} phone calls that <last/lasted> {a} minutes each.]
  more = a * n | That is # minutes more
  v = v + more | That makes # minutes
  -> minutes | SPENT

in_hours:
  need v / 30 == v // 30
  v = v / 60 | That is # hours
  -> hours | How many hours <does/did> {p} [spend|need][| in total| altogether]?

free_time:
  h = whole(v) // 60 + pick(1, 1, 2)
  say [{p.He} <has/had> {h} hours [in total|for all this|of free time].|All in all, {p.he} <has/had> {h} hours.]
  total = h * 60 | {h} hours are # minutes
  v = total - v | # minutes are left
  -> end | How many minutes does {p} have left?

paid_hours:
  x = some(6, 40)
  say {p.He} <is/was> paid ${x} [an|per] hour[| for all of this].
  v = v * x | {p} earns # dollars
  -> money | How much money <does/did> {p} earn?

other_person:
  q = person(); k = pick(2, 2, 3); many = times(k)
  say {q} <spends/spent> {many} as much time as {p}.
  other = v * k | {q} needs # minutes
  v = v + other | Together they need # minutes
  -> end | How many minutes <do/did> they spend [together|in total|altogether]?
