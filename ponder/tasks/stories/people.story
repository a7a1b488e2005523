# People whose ages are compared; asked is an age, later, or together.

ages:
  r = person(); v = some(4, 24)
  say [{r} is {v} years old.|{r} is {v}.|{r} turned {v} this year.]
  last = pick("now", "later", "sum", "sum", "ago"); kept = 1
  need last != "sum" or level >= 2
  if last == "now":
    kept = 0
  while left > kept and told < 5:
    q = r; n = v; r = person(); how = pick("older", "younger", "times", "half")
    if how == "older":
      d = some(2, 30)
      say [{r} is {d} years older than {q}.|{q} has a cousin, {r}, who is {d} years older.]
      v = n + d | {r} is # years old
    else if how == "younger":
      d = part(n, 0.1, 0.6)
      say {r} is {d} years younger than {q}.
      v = n - d | {r} is # years old
    else if how == "times":
      k = pick(2, 2, 3, 4); many = times(k)
      say [{r} is {many} as old as {q}.|{r}'s age is {many} {q}'s age.]
      v = n * k | {r} is # years old
    else:
      k = divisor(n, 2, 4); f = fraction(k)
      say {r} is {f} as old as {q}.
      v = n / k | {r} is # years old
    need v <= 95
  need left == kept
  ask [How old is {r}?|What is {r}'s age?|How many years old is {r}?]
  done if last == "now"
  d = some(2, 20)
  if last == "later":
    v = v + d | Then {r} will be # years old
    ask [How old will {r} be in {d} years?|In {d} years, how old will {r} be?
      |What will {r}'s age be {d} years from now?]
  else if last == "ago":
    d = part(v, 0.1, 0.6)
    v = v - d | Then {r} was # years old
    ask [How old was {r} {d} years ago?|{d} years ago, how old was {r}?]
  else:
    v = n + v | Together they are # years old
    ask What is the
      [sum of the ages of {q} and {r}|total of {q}'s and {r}'s ages|combined age of {q} and {r}]?
