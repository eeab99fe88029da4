# Every number of the status is true, in HTML, JSON, Prometheus and mod_status.
# Licensed under the Apache License, Version 2.0; see LICENSE.

use strict;
use warnings;
use FindBin qw($Bin);
use lib "$Bin/lib";
use Client;
use FcgiApp;
use Httpd;
use JSON::PP ();
use List::Util qw(max min sum0);
use POSIX qw(ceil);
use Private;
use Test::More;
use Time::HiRes qw(sleep time);

my $HEAD = "Content-Type: text/plain\r\n\r\n";
my $PATIENCE = 20;
my ($VERSION) = Private::slurp("$Bin/../fcgi_version.h")
    =~ /^#define FCGI_MODULE_VERSION "(.+)"$/m;
my $PROMTOOL = (grep { -x } map { "$_/promtool" } split /:/, $ENV{PATH})[0];

my @OUTCOMES = qw(done no_connection no_place timed_out broken_answer
                  not_fastcgi bad_headers overloaded unknown_role
                  bad_request_body no_space client_gone
                  refused_by_a_filter);
my %FAULTLESS = map { $_ => 1 } qw(done bad_request_body client_gone
                                   refused_by_a_filter);

# The numbers of one backend: in JSON, in mod_status, in Prometheus.
my @NUMBERS = (
    [qw(in_use InUse connections_in_use gauge)],
    [qw(idle Idle connections_idle gauge)],
    [qw(waiting Waiting requests_waiting gauge)],
    [qw(parked Parked requests_parked gauge)],
    [qw(max Max connections_max gauge)],
    [qw(queue Queue requests_waiting_max gauge)],
    [qw(keepalive KeepAlive connections_idle_max gauge)],
    [qw(requests Requests), undef],
    [qw(failed Failed requests_failed_total counter)],
    [qw(sent_again SentAgain requests_sent_again_total counter)],
    [qw(reused Reused requests_reused_total counter)],
    [qw(returns Returns returns_total counter)],
    [qw(bytes_sent BytesSent sent_bytes_total counter)],
    [qw(bytes_received BytesReceived received_bytes_total counter)],
);
my %SPANS = (wait => ['Wait', 'wait_seconds'],
             first_byte => ['FirstByte', 'first_byte_seconds'],
             total => ['Total', 'request_seconds']);

my $SEVERAL = Httpd::several(6);
my $CAN_PARK = Httpd::can_park();

# ---- asking for the status ----

sub text_of {
    my ($httpd, $query, %headers) = @_;
    my $answer = Client->get($httpd->port, "/fcgi-status$query", %headers);
    die "no whole status: @{[ $answer->error ]}\n" if !$answer->complete;
    return $answer->body;
}

sub json_of { return JSON::PP->new->utf8->decode(text_of($_[0], '?json')) }

# One backend, by its address or FcgiBackend's name for it.
sub backend_in {
    my ($all, $name) = @_;
    return (grep { $_->{backend} eq $name || $_->{name} eq $name }
            @{ $all->{backends} })[0];
}

# What is said of a backend when these numbers are reached, or at the end of
# patience: the answer may be here before it is counted.
sub wait_numbers {
    my ($httpd, $name, $wanted) = @_;
    my $said;
    Private::wait_until($PATIENCE, sub {
        $said = backend_in(json_of($httpd), $name) or return 0;
        !grep { $said->{$_} != $wanted->{$_} } keys %$wanted;
    });
    return $said;
}

sub numbers_are {
    my ($httpd, $name, $wanted, $what) = @_;
    my $said = wait_numbers($httpd, $name, $wanted);
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    is_deeply({ map { $_ => $said->{$_} } keys %$wanted }, $wanted, $what);
    return $said;
}

# ---- Prometheus: the grammar of its text format, and what it says ----

my $METRIC = qr/[a-zA-Z_:][a-zA-Z0-9_:]*/;
my $LABEL = qr/[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\[\\"n])*"/;
my $NUMBER = qr/[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?|[+-]Inf|NaN/;

# { samples => { 'name{labels}' => value }, types => { name => type },
#   wrong => [what is against the rules] }
sub parse_prometheus {
    my ($text) = @_;
    my %parsed = (samples => {}, types => {}, wrong => []);
    my (%helped, %closed, $family);
    my $wrong = sub { push @{ $parsed{wrong} }, join ': ', @_ };
    my $begin = sub {
        my ($name) = @_;
        return if defined $family && $family eq $name;
        $closed{$family} = 1 if defined $family;
        $wrong->($name, 'in two groups') if $closed{$name};
        $family = $name;
    };
    $wrong->('no line feed at the end') if $text ne '' && $text !~ /\n\z/;
    $wrong->('not UTF-8') if !utf8::decode(my $copy = $text);
    for my $line (split /\n/, $text) {
        if ($line =~ /^# HELP ($METRIC) ((?:[^\\]|\\[\\n])+)$/) {
            $begin->($1);
            $wrong->($line, 'again') if $helped{$1}++;
        }
        elsif ($line
               =~ /^# TYPE ($METRIC) (counter|gauge|histogram)$/) {
            $begin->($1);
            $wrong->($line, 'again') if $parsed{types}{$1};
            $parsed{types}{$1} = $2;
        }
        elsif ($line
               =~ /^(($METRIC)(?:\{($LABEL(?:,$LABEL)*)\})?) ($NUMBER)$/) {
            my ($sample, $name, $labels, $value) = ($1, $2, $3 // '', $4);
            my $of = $name =~ s/_(?:bucket|sum|count)$//r;
            $of = $name if ($parsed{types}{$of} // '') ne 'histogram';
            $begin->($of);
            $wrong->($line, 'no type before') if !$parsed{types}{$of};
            $wrong->($line, 'no help before') if !$helped{$of};
            $wrong->($line, 'again') if exists $parsed{samples}{$sample};
            my @names = $labels =~ /([a-zA-Z_]\w*)="(?:[^"\\]|\\.)*"/g;
            my %seen;
            $wrong->($line, 'a label twice') if grep { $seen{$_}++ } @names;
            $wrong->($line, 'a counter with a sign or a fraction')
                if ($parsed{types}{$of} // '') eq 'counter'
                && $value !~ /^\d+$/;
            $parsed{samples}{$sample} = $value;
        }
        else {
            $wrong->('no line of the format', $line);
        }
    }
    check_histograms(\%parsed, $wrong);
    return \%parsed;
}

# Every histogram has buckets that only grow, the last one the count.
sub check_histograms {
    my ($parsed, $wrong) = @_;
    my %buckets;
    for my $sample (keys %{ $parsed->{samples} }) {
        my ($name, $labels, $le) =
            $sample =~ /^(\w+)_bucket\{(.*),le="([^"]+)"\}$/ or next;
        push @{ $buckets{"$name {$labels}"} },
            [$le eq '+Inf' ? 9**9**9 : $le, $parsed->{samples}{$sample}];
    }
    for my $which (sort keys %buckets) {
        my ($name, $labels) = split / /, $which, 2;
        my @sorted = sort { $a->[0] <=> $b->[0] } @{ $buckets{$which} };
        my $before = 0;
        for my $bucket (@sorted) {
            $wrong->($which, 'a bucket has less than the one before')
                if $bucket->[1] < $before;
            $before = $bucket->[1];
        }
        $wrong->($which, 'no bucket of all') if $sorted[-1][0] != 9**9**9;
        my $count = $parsed->{samples}{"${name}_count$labels"};
        $wrong->($which, 'the count is not that of all buckets')
            if !defined $count || $count != $before;
        $wrong->($which, 'no sum')
            if !defined $parsed->{samples}{"${name}_sum$labels"};
    }
    return;
}

sub prometheus_of { return parse_prometheus(text_of($_[0], '?prometheus')) }

sub is_valid_prometheus {
    my ($httpd, $what) = @_;
    my $text = text_of($httpd, '?prometheus');
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    is_deeply(parse_prometheus($text)->{wrong}, [], "$what: the grammar");
    if ($PROMTOOL) {
        my $file = Private::spew($httpd->root . '/tmp/metrics', $text);
        my ($status, $words) = Private::run(
            'sh', '-c', 'exec "$0" check metrics <"$1"', $PROMTOOL, $file);
        is("$status $words", '0 ', "$what: promtool has nothing to say");
    }
    return;
}

# The labels of a backend.
sub labels { return qq(backend="$_[0]{backend}",name="$_[0]{name}") }

# ---- mod_status ----

# The lines of ?auto: { address => { key => value } }, and what is general.
sub parse_lines {
    my ($text) = @_;
    my (%general, @list);
    for my $line (split /\n/, $text) {
        if ($line =~ /^FcgiBackend\[(\d+)\](.+?): (.*)$/) {
            $list[$1]{$2} = $3;
        }
        elsif ($line =~ /^(Fcgi\w+): (.*)$/) {
            $general{$1} = $2;
        }
    }
    return (\%general, { map { ($_->{Address} => $_) } @list });
}

# HTML as text: no tags, entities as characters, single spaces.
sub plain {
    my ($html) = @_;
    $html =~ s/<title>.*?<\/title>//gs;
    $html =~ s/<[^>]*>/ /g;
    my %entity = (nbsp => ' ', ndash => '-', micro => 'u', middot => '.');
    $html =~ s/&(\w+);/$entity{$1} \/\/ "&$1;"/ge;
    return $html =~ s/\s+/ /gr =~ s/^ | $//gr;
}

# The rows of the table in server-status: { first cell => [other cells] }.
sub parse_table {
    my ($html) = @_;
    my ($table) = $html =~ m{<h2>FastCGI backends</h2>\s*(<table.*?</table>)}s
        or return {};
    my %rows;
    for my $row ($table =~ m{<tr[^>]*>(<td.*?)</tr>}gs) {
        my ($first, @cells) = map { plain($_) }
            $row =~ m{<td[^>]*>(.*?)</td>}gs;
        $rows{$first} = \@cells;
    }
    return \%rows;
}

# The part of the page about one backend, as HTML and as text.
sub html_section_of {
    my ($page, $address) = @_;
    return (grep { /<small>\Q$address\E[ <]/ }
            $page =~ m{(<section>.*?</section>)}gs)[0] // '';
}

sub section_of { return plain(html_section_of(@_)) }

# A time on the page, in seconds; undef for a dash.
sub shown_time {
    my ($text) = @_;
    my ($number, $unit) = $text =~ /^([\d.]+) (s|ms|us)$/ or return undef;
    return $number * { s => 1, ms => 1e-3, us => 1e-6 }->{$unit};
}

# ---- applications ----

# Begins an answer, and ends it when it is released.
sub held {
    my ($c) = @_;
    while (my $request = $c->read_request(60)) {
        my $id = $request->{params}{QUERY_STRING};
        $c->stderr("serves $id\n");
        $c->stdout("${HEAD}begun");
        $c->report(begun => $id);
        $c->wait_release($id, 40);
        $c->end;
        last if !($request->{flags} & FCGI_KEEP_CONN);
    }
    return;
}

my %story = (
    good => sub { $_[0]->reply("${HEAD}good") },
    broken => sub { $_[0]->close },
    malformed => sub { $_[0]->send('no FastCGI at all'); $_[0]->wait_eof(9) },
    headers => sub { $_[0]->end },
    overloaded => sub { $_[0]->end(0, FCGI_OVERLOADED) },
    role => sub { $_[0]->end(0, FCGI_UNKNOWN_ROLE) },
    silent => sub { $_[0]->wait_eof(20) },
    held => sub { $_[0]->report(held => 1); $_[0]->wait_release('held', 40);
                  $_[0]->reply("${HEAD}held") },
    leaves => sub { $_[0]->report(leaves => 1); $_[0]->wait_eof(20) },
);

sub tell {
    my ($c) = @_;
    my $request = $c->read_request(20) or return;
    my ($name) = $request->{params}{REQUEST_URI} =~ m{/(\w+)$};
    return ($story{$name} || $story{good})->($c);
}

# Breaks the first connection that asks for /once; works 50 ms for /slow.
my $once = Private::temp_dir('once');

sub kept {
    my ($c) = @_;
    while (my $request = $c->read_request(60)) {
        my $path = $request->{params}{PATH_INFO} // '';
        return if $path eq '/once' && !-e "$once/asked"
            && Private::spew("$once/asked", '');
        sleep 0.05 if $path eq '/slow';
        $c->report(held => 1), $c->wait_release('held', 40)
            if $path eq '/held';
        $c->reply($HEAD . 'x' x 1000);
        last if !($request->{flags} & FCGI_KEEP_CONN);
    }
    return;
}

my $busy = FcgiApp->start(\&held, workers => 8);
my $teller = FcgiApp->start(\&tell, workers => 3);
my $keeper = FcgiApp->start(\&kept, workers => 3);
my $loaded = FcgiApp->start(\&kept, workers => 3);
my $goer = FcgiApp->start(\&tell);
my $dynamic = FcgiApp->start(\&tell);
my $nobody = Private::reserve_port();

# A socket's path may have a symbolic link in it.
my $linked = Private::temp_dir('linked');
mkdir "$linked/real" or die;
symlink 'real', "$linked/link" or die;
my $behind = FcgiApp->start(\&tell, transport => 'unix',
                            socket => "$linked/real/app.sock");

# What the access log has of each request: path, status, httpd's own time of
# it, and the notes.
my @LOGGED = ('status', 'time', map { "fcgi-$_" }
              qw(backend tries queue connect first-byte total bytes-out
                 bytes-in reused));

my $httpd = Httpd->start(
    modules => [qw(status setenvif)], mpm => $SEVERAL,
    access_format => join(' ', '%U', '%s', '%D',
                          map { "%{$_}n" } @LOGGED[2 .. $#LOGGED]),
    vars => { BUSY => $busy->handler, TELLER => $teller->handler,
              KEEPER => $keeper->handler, GOER => $goer->handler,
              LOADED => $loaded->handler, DYNAMIC => $dynamic->address,
              LINK => "fcgi:$linked/link/app.sock",
              NOBODY => 'fcgi:127.0.0.1:' . $nobody->sockport },
    config => <<'EOC');
FcgiBackend busy @BUSY@ max=4 queue=3 keepalive=2 idle=60
FcgiBackend keeper @KEEPER@ keepalive=1 idle=60
FcgiBackend never fcgi:/nowhere/never.sock max=7 queue=5 keepalive=3
FcgiBackend endless fcgi:/nowhere/endless.sock keepalive=0
FcgiConnectTimeout 100ms
FcgiRetry Off
GracefulShutdownTimeout 0
<Location /fcgi-status>
  SetHandler fcgi-status
</Location>
<Location /server-status>
  SetHandler server-status
</Location>
<Location /busy>
  SetHandler fcgi:busy
</Location>
<Location /keeper>
  SetHandler fcgi:keeper
  FcgiRetry Safe
</Location>
<Location /loaded>
  SetHandler @LOADED@
</Location>
<Location /story>
  SetHandler @TELLER@
</Location>
<Location /story/silent>
  FcgiTimeout 200ms
</Location>
<Location /story/small>
  LimitRequestBody 10
</Location>
<Location /story/full>
  FcgiBufferMemory 256
  FcgiBufferDir @ROOT@/run
</Location>
<Location /linked>
  SetHandler @LINK@
</Location>
<Location /goer>
  SetHandler @GOER@
</Location>
<Location /nobody>
  SetHandler @NOBODY@
</Location>
<Location /dynamic>
  SetHandler "fcgi:%{HTTP:X-Address}"
</Location>
EOC

sub send_to_busy {
    my ($id, $server) = @_;
    my $conn = Client->connect($httpd->port);
    $conn->send("GET /busy?$id HTTP/1.1\r\nHost: x\r\n"
                . "Connection: close\r\n\r\n");
    return $conn;
}

sub ask {
    my ($path, %headers) = @_;
    return Client->get($httpd->port, $path, %headers)->status;
}

sub post {
    my ($path, $header, $body) = @_;
    return Client->request($httpd->port, "POST $path HTTP/1.1\r\nHost: x\r\n"
                           . "Connection: close\r\n$header\r\n\r\n$body");
}

# All that is logged for one backend: a hash for each request.
sub logged_for {
    my ($backend) = @_;
    my @found;
    for my $line (split /\n/, $httpd->access_log) {
        my ($path, @values) = split ' ', $line;
        my %entry = (path => $path, map { $LOGGED[$_] => $values[$_] }
                     0 .. $#LOGGED);
        push @found, \%entry if $entry{'fcgi-backend'} eq $backend;
    }
    return @found;
}

# ---- the tests ----

subtest 'before any request' => sub {
    my $all = json_of($httpd);
    cmp_ok(abs($all->{time} - time), '<', 60, 'the time');
    cmp_ok($all->{since}, '<=', $all->{time}, 'counting began before');
    is($all->{restarts}, 0, 'no restart');
    is_deeply([map { $_->{name} || () } @{ $all->{backends} }],
              [sort { backend_in($all, $a)->{backend}
                          cmp backend_in($all, $b)->{backend} }
                   qw(busy keeper never endless)], 'sorted by address');
    is(scalar @{ $all->{backends} }, 9, 'all that the configuration names');
    for my $backend (@{ $all->{backends} }) {
        my ($name) = $backend->{backend};
        is($backend->{configured}, JSON::PP::true, "$name: configured");
        is_deeply([map { $backend->{ $_->[0] } }
                       grep { $_->[0] !~ /^(?:max|queue|keepalive)$/ }
                       @NUMBERS], [(0) x (@NUMBERS - 3)], 'nothing counted');
        is_deeply([sort keys %{ $backend->{outcomes} }], [sort @OUTCOMES],
                  'every outcome is there');
        is(sum0(values %{ $backend->{outcomes} }), 0, 'none of them');
        is_deeply($backend->{latency}{$_},
                  { count => 0, sum => 0,
                    map { $_ => undef } qw(p50 p90 p99) },
                  "nothing measured: $_") for keys %SPANS;
        is_deeply($backend->{history},
                  { seconds => 5, requests => [(0) x 121],
                    failed => [(0) x 121] }, 'no history');
    }
    my %limits = (busy => [4, 3, 2], keeper => [0, 0, 1],
                  never => [7, 5, 3], endless => [0, 0, 0]);
    is_deeply([@{ backend_in($all, $_) }{qw(max queue keepalive)}],
              $limits{$_}, "the limits of $_") for sort keys %limits;
    is_valid_prometheus($httpd, 'nothing counted');
    my $page = text_of($httpd, '');
    like(section_of($page, 'fcgi:/nowhere/never.sock'),
         qr/^never\ .*\ not\ asked\ yet\ .*\ 0\ in\ use\ of\ 7\ idle\ 0\ of\ 3
            \ requests\ in\ line\ 0\ of\ 5\ waiting\ without\ a\ thread\ 0
            \ .*\ median\ 90\ %\ 99\ %
            \ connection\ -\ -\ -\ first\ byte\ -\ -\ -\ total\ -\ -\ -/x,
         'on the page');
};

subtest 'in use, in line, idle' => sub {
    my %conn;
    for my $n (1 .. 4) {
        $conn{"a$n"} = send_to_busy("a$n");
        is($busy->wait_report('begun', $PATIENCE), "a$n", "a$n runs");
        numbers_are($httpd, 'busy', { in_use => $n, waiting => 0, idle => 0,
                                      requests => 0 }, "$n in use");
    }
    for my $n (1 .. 3) {
        $conn{"b$n"} = send_to_busy("b$n");
        numbers_are($httpd, 'busy', { in_use => 4, waiting => $n, idle => 0,
                                      requests => 0 }, "$n in line");
    }
    is(ask('/busy?full'), 503, 'the line is full');
    my $said = numbers_are($httpd, 'busy', { requests => 1, failed => 1 },
                           'that one failed');
    is($said->{outcomes}{no_place}, 1, 'it had no place');
    my $parked = $CAN_PARK ? 7 : 0;
    numbers_are($httpd, 'busy', { parked => $parked },
                "$parked of them wait without a thread");
    like(section_of(text_of($httpd, ''), $busy->handler),
         qr/ failing Connections 4 in use of 4 idle 0 of 2 requests in line 3 of 3 waiting without a thread $parked /,
         'on the page');
    my ($row) = map { $_->[1] } grep { $_->[0] =~ /^busy / }
        do { my $rows = parse_table(Client->get($httpd->port,
                                                '/server-status')->body);
             map { [$_, $rows->{$_}] } keys %$rows };
    is_deeply([@$row[0 .. 5]], ['4 of 4', '0 of 2', '3 of 3', $parked, 1,
                                '1 no place'], 'in mod_status')
        or diag explain $row;

    $busy->release($_) for map { "a$_" } 1 .. 4;
    is($conn{"a$_"}->read_response->status, 200, "a$_ is answered")
        for 1 .. 4;
    $busy->wait_report('begun', $PATIENCE) for 1 .. 3;
    my $left = numbers_are($httpd, 'busy',
                           { in_use => 3, waiting => 0, requests => 5,
                             parked => $CAN_PARK ? 3 : 0 },
                           'those in line have their turn')->{idle};
    cmp_ok($left, '<=', 1, 'one connection is left over');
    # one after the other, so that nobody needs what the first ones leave
    for my $n (1 .. 3) {
        my $idle = min(2, $left + $n);
        $busy->release("b$n");
        is($conn{"b$n"}->read_response->status, 200, "b$n is answered");
        numbers_are($httpd, 'busy', { in_use => 3 - $n, idle => $idle,
                                      parked => $CAN_PARK ? 3 - $n : 0,
                                      requests => 5 + $n },
                    "$idle idle, of two that may be");
    }
};

subtest 'how requests end' => sub {
    my %times;
    my $end = sub {
        my ($status, $outcome, $answer) = @_;
        is(ref $answer ? $answer->status : $answer, $status, $outcome);
        $times{$outcome}++;
    };
    $end->(200, 'done', ask('/story/good')) for 1 .. 3;
    $end->(502, 'broken_answer', ask('/story/broken')) for 1 .. 2;
    $end->(502, 'not_fastcgi', ask('/story/malformed'));
    $end->(502, 'bad_headers', ask('/story/headers'));
    $end->(503, 'overloaded', ask('/story/overloaded'));
    $end->(500, 'unknown_role', ask('/story/role'));
    $end->(504, 'timed_out', ask('/story/silent'));
    $end->(413, 'bad_request_body',
           post('/story/small', 'Content-Length: 20', 'x' x 20));
    $end->(400, 'bad_request_body',
           post('/story/good', 'Transfer-Encoding: chunked', "no size\r\n"));
    $end->(507, 'no_space',
           post('/story/full', 'Content-Length: 999', 'x' x 999)) if $> == 0;
    $end->(416, 'refused_by_a_filter', Client->get(
        $httpd->port, '/story/good', Range => 'bytes=9999-'));
    my $conn = Client->connect($httpd->port);
    $conn->send("GET /story/leaves HTTP/1.1\r\nHost: x\r\n\r\n");
    ok($teller->wait_report('leaves', $PATIENCE), 'client_gone');
    $conn->reset;
    $times{client_gone}++;

    my $failed = sum0(map { $FAULTLESS{$_} ? 0 : $times{$_} } keys %times);
    my $said = numbers_are(
        $httpd, $teller->handler,
        { requests => sum0(values %times), failed => $failed, in_use => 0,
          idle => 0 }, 'all are counted');
    is_deeply($said->{outcomes},
              { (map { $_ => 0 } @OUTCOMES), %times }, 'as what they are');
    for my $kind (qw(requests failed)) {
        Private::wait_until($PATIENCE, sub {
            $said = backend_in(json_of($httpd), $teller->handler);
            sum0(@{ $said->{history}{$kind} }) == $said->{$kind};
        });
        is(sum0(@{ $said->{history}{$kind} }), $said->{$kind},
           "the last minutes have the same: $kind");
    }
    # there may be the end of a moment between two looks
    ok((grep { $_ > 0 } @{ $said->{history}{requests} }[-5 .. -1]),
       'the newest come last');

    is(ask('/nobody'), 503, 'no_connection');
    $said = numbers_are($httpd, 'fcgi:127.0.0.1:' . $nobody->sockport,
                        { requests => 1, failed => 1, bytes_sent => 0 },
                        'of another backend');
    is($said->{outcomes}{no_connection}, 1, 'counted');

    my $section = section_of(text_of($httpd, ''), $teller->handler);
    like($section, qr/ failing Connections 0 in use idle 0 waiting without a thread 0 Requests /,
         'on the page: it fails');
    like($section, qr/Failures $failed failed timed out 1 broken answer 2 not FastCGI 1 bad headers 1 overloaded 1 unknown role 1 bad request body 2/,
         'and how');
};

subtest 'kept connections, and sent again' => sub {
    my $conn = Client->connect($httpd->port);
    $conn->send("GET /keeper/held HTTP/1.1\r\nHost: x\r\n\r\n");
    ok($keeper->wait_report('held', $PATIENCE), 'one without a first byte');
    sleep 0.1;              # so long it needs the application
    numbers_are($httpd, 'keeper', { in_use => 1, idle => 0, waiting => 0 },
                'stands in no line');
    $keeper->release('held');
    is($conn->read_response->status, 200, 'answered');
    for my $n (1 .. 3) {
        $conn->send("GET /keeper/$n HTTP/1.1\r\nHost: x\r\n\r\n");
        is($conn->read_response->status, 200, 'answered');
        numbers_are($httpd, 'keeper',
                    { requests => $n + 1, idle => 1, in_use => 0,
                      reused => $n }, "$n on a kept connection");
    }
    $conn->send("GET /keeper/once HTTP/1.1\r\nHost: x\r\n\r\n");
    is($conn->read_response->status, 200, 'sent once more');
    numbers_are($httpd, 'keeper', { requests => 5, sent_again => 1,
                                    failed => 0 }, 'that is one request');
    for my $n (1 .. 5) {
        $conn->send("GET /keeper/slow HTTP/1.1\r\nHost: x\r\n\r\n");
        is($conn->read_response->status, 200, 'a slow one');
    }
    my $said = numbers_are($httpd, 'keeper', { requests => 10 }, 'counted');
    cmp_ok($said->{latency}{$_}{p90}, '>=', 0.05 * 8 / 9, "$_: 90 percent")
        for qw(first_byte total);
    cmp_ok($said->{latency}{$_}{p90}, '<=', $said->{latency}{$_}{p99},
           "$_: 99 percent take as long") for keys %SPANS;
};

subtest 'a restart of the application' => sub {
    is(ask('/goer/good'), 200, 'it is there');
    numbers_are($httpd, $goer->handler, { requests => 1, returns => 0 },
                'it did not come back');
    for my $n (1 .. 2) {
        $goer->stop(keep_file => $n == 2);
        is(ask('/goer/good'), 503, 'it is gone') for 1 .. 2;
        numbers_are($httpd, $goer->handler,
                    { requests => 4 * $n - 1, returns => $n - 1,
                      failed => 2 * $n }, 'not back yet');
        like(section_of(text_of($httpd, ''), $goer->handler),
             qr/ not there Connections/, 'on the page');
        $goer->restart;
        is(ask('/goer/good'), 200, 'it is back') for 1 .. 2;
        numbers_are($httpd, $goer->handler,
                    { requests => 4 * $n + 1, returns => $n },
                    "back $n times");
    }
    unlike(section_of(text_of($httpd, ''), $goer->handler), qr/not there/,
           'on the page');
};

subtest 'a link in the path of a socket' => sub {
    is(ask('/linked/good'), 200, 'answered');
    my $all = json_of($httpd);
    my @rows = grep { $_->{backend} =~ m{^fcgi:\Q$linked\E} }
        @{ $all->{backends} };
    is(scalar @rows, 1, 'one backend');
    is($rows[0]{backend}, "fcgi:$linked/link/app.sock", 'as configured');
    is($rows[0]{configured}, JSON::PP::true, 'configured');
    numbers_are($httpd, "fcgi:$linked/link/app.sock", { requests => 1 },
                'counted');
};

# What a name is shown as.
sub shown {
    my ($name) = @_;
    return $name =~ s/([^ -~]|[%"'<>&\\])/sprintf '%%%02X', ord $1/ger;
}

my @hostile = ('/nowhere/"><script>alert(1)</script>', '/nowhere/\\',
               '/nowhere/a\\"b\'c', '/nowhere/100%25&amp;{x="y"},z 1',
               "/nowhere/\xc3\xbc", "/nowhere/\xff\xfe\x80", "/nowhere/a\tb",
               '/nowhere/' . 'x' x 98);

subtest 'backends that only requests name' => sub {
    my $name = 'fcgi:' . $dynamic->address;
    ok(!backend_in(json_of($httpd), $name), 'not before it is asked');
    my $conn = Client->connect($httpd->port);
    $conn->send("GET /dynamic/held HTTP/1.1\r\nHost: x\r\nX-Address: "
                . $dynamic->address . "\r\n\r\n");
    ok($dynamic->wait_report('held', $PATIENCE), 'the first one asks');
    my $said = numbers_are($httpd, $name, { in_use => 1, requests => 0,
                                            max => 0 }, 'then it is there');
    is($said->{configured}, JSON::PP::false, 'not configured');
    $dynamic->release('held');
    is($conn->read_response->status, 200, 'answered');
    numbers_are($httpd, $name, { in_use => 0, requests => 1 }, 'counted');
    is(json_of($httpd)->{backends}[-1]{configured}, JSON::PP::false,
       'behind those that are');
    like(section_of(text_of($httpd, ''), $name), qr/\(not configured\)/,
         'on the page');
    for my $path (@hostile) {
        is(ask('/dynamic/x', 'X-Address' => $path), 503, shown($path));
        my $backend = numbers_are($httpd, shown("fcgi:$path"),
                                  { requests => 1, failed => 1 }, 'counted');
        is($backend->{configured}, JSON::PP::false, 'not configured');
    }
    is(scalar(() = text_of($httpd, '') =~ /<script|alert\(1\)<|[^ -~\n]/g), 0,
       'nothing of them is HTML');
    my $status = Client->get($httpd->port, '/server-status')->body;
    is(scalar(() = $status =~ /<script>alert/g), 0, 'nor in mod_status');
    is_valid_prometheus($httpd, 'hostile names');
};

# Three clients ask while the numbers are looked at.
subtest 'under load' => sub {
    my $each = 60;
    my $done = Private::temp_dir('load');
    my @pids = map {
        my $n = $_;
        Private::spawn(code => sub {
            my $wrong = grep { ask('/loaded/x') != 200 } 1 .. $each;
            Private::spew("$done/$n", $wrong);
        });
    } 1 .. 3;
    my ($before, @down, %wrong);
    my $looks = 0;
    while (1) {
        my $over = !grep { !-e "$done/$_" } 1 .. 3;
        my $seen = prometheus_of($httpd);
        $wrong{$_} = 1 for @{ $seen->{wrong} };
        for my $sample (keys %{ $before->{samples} || {} }) {
            my ($name) = $sample =~ /^(\w+)/;
            my $type = $seen->{types}{$name} // 'histogram';
            push @down, $sample if $type ne 'gauge'
                && $seen->{samples}{$sample} < $before->{samples}{$sample};
        }
        $before = $seen;
        last if $looks++ > 3 && $over || $looks > 2000;
        sleep 0.05;
    }
    note "$looks looks";
    is_deeply([sort keys %wrong], [], 'the format is right at any moment');
    is_deeply(\@down, [], 'no counter goes down');
    is(join('', map { Private::slurp("$done/$_") } 1 .. 3), '000',
       'all were answered');
    numbers_are($httpd, $loaded->handler,
                { requests => 3 * $each, failed => 0, in_use => 0 },
                'all children counted');
    Private::wait_until($PATIENCE, sub { !Private::alive($_) }) for @pids;
};

# Seconds of the JSON as microseconds.
sub us { return sprintf '%.0f', 1e6 * $_[0] }

# A percentile that is said of these times is right to an eighth.
sub is_percentile {
    my ($said, $percent, $what, @times) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return is($said, undef, "$what: nothing") if !@times;
    my $is = (sort { $a <=> $b } @times)[max(1, ceil(@times * $percent / 100))
                                         - 1];
    return cmp_ok(abs(us($said) - $is), '<=', max(16, $is / 8),
                  "$what: p$percent of " . @times);
}

subtest 'the access log says the same' => sub {
    my $all = json_of($httpd);
    my $metrics = prometheus_of($httpd);
    for my $said (@{ $all->{backends} }) {
        my $name = $said->{backend};
        next if grep { $name eq shown("fcgi:$_") } @hostile;
        Private::wait_until($PATIENCE, sub {
            logged_for($name) >= $said->{requests};
        });
        my @logged = logged_for($name);
        is(scalar @logged, $said->{requests}, "$name: requests");
        my %sum = map { my $note = $_;
                        $note => sum0(map { $_->{$note} } @logged) }
            qw(time fcgi-bytes-out fcgi-bytes-in fcgi-reused fcgi-total);
        is($said->{bytes_sent}, $sum{'fcgi-bytes-out'}, 'bytes sent');
        is($said->{bytes_received}, $sum{'fcgi-bytes-in'}, 'bytes received');
        is($said->{reused}, $sum{'fcgi-reused'}, 'reused');
        is($said->{sent_again},
           scalar(grep { $_->{'fcgi-tries'} > 1 } @logged), 'sent again');

        my @tried = grep { $_->{'fcgi-tries'} > 0 } @logged;
        my %times = (
            wait => [map { $_->{'fcgi-queue'} + $_->{'fcgi-connect'} }
                     @tried],
            first_byte => [grep { $_ ne '-' }
                           map { $_->{'fcgi-first-byte'} } @logged]);
        for my $span (sort keys %times) {
            my @times = @{ $times{$span} };
            my $latency = $said->{latency}{$span};
            is($latency->{count}, scalar @times, "$span: count");
            is(us($latency->{sum}), sum0(@times), "$span: sum");
            is_percentile($latency->{"p$_"}, $_, $span, @times)
                for 50, 90, 99;
            my $family = "fcgi_backend_$SPANS{$span}[1]_bucket{"
                . labels($said);
            my %expected = map {
                my $le = sprintf '%.6f', 2**$_ / 1e6;
                (qq($family,le="$le"}) => scalar grep { $_ < 1e6 * $le }
                 @times);
            } 8 .. 26;
            is_deeply({ map { $_ => $metrics->{samples}{$_} }
                        keys %expected }, \%expected, "$span: buckets");
        }
        # it ends after its note, and before httpd looks at the clock
        my $total = $said->{latency}{total};
        is($total->{count}, scalar @tried, 'total: count');
        cmp_ok(us($total->{sum}), '>=',
               sum0(map { $_->{'fcgi-total'} } @tried), 'total: no less');
        cmp_ok(us($total->{sum}), '<=', sum0(map { $_->{time} } @tried),
               'total: no more');
    }
    my @waits = sort { $b <=> $a } map { $_->{'fcgi-queue'} }
        logged_for($busy->handler);
    is(scalar(grep { $_ > 1000 } @waits), 3, 'three have stood in line');
};

# ---- all forms ----

sub same_in_prometheus {
    my ($said, $samples) = @_;
    my $labels = labels($said);
    for my $number (grep { $_->[2] } @NUMBERS) {
        is($samples->{"fcgi_backend_$number->[2]\{$labels}"},
           $said->{ $number->[0] }, "$number->[2]");
    }
    my @outcomes = map {
        $samples->{qq(fcgi_backend_requests_total{$labels,outcome="$_"})}
    } @OUTCOMES;
    is_deeply(\@outcomes, [@{ $said->{outcomes} }{@OUTCOMES}], 'outcomes');
    for my $span (sort keys %SPANS) {
        my $family = "fcgi_backend_$SPANS{$span}[1]";
        is($samples->{"${family}_count\{$labels}"},
           $said->{latency}{$span}{count}, "$family: count");
        is(us($samples->{"${family}_sum\{$labels}"}),
           us($said->{latency}{$span}{sum}), "$family: sum");
    }
    return;
}

sub same_in_lines {
    my ($said, $lines) = @_;
    is($lines->{Name}, $said->{name}, 'the name');
    is_deeply([map { $lines->{ $_->[1] } } @NUMBERS],
              [map { $said->{ $_->[0] } } @NUMBERS], 'the numbers');
    is_deeply([map { $lines->{"Outcome[$_]"} } @OUTCOMES],
              [@{ $said->{outcomes} }{@OUTCOMES}], 'outcomes');
    for my $span (sort keys %SPANS) {
        for my $percent (qw(50 90 99)) {
            my $is = $said->{latency}{$span}{"p$percent"};
            my $shown = $lines->{"$SPANS{$span}[0]P$percent"};
            is(defined $shown ? us($shown) : undef,
               defined $is ? us($is) : undef, "$span p$percent");
        }
    }
    return;
}

# apr_strfsize()'s idea of a size.
sub is_size {
    my ($text, $bytes, $what) = @_;
    my ($number, $unit) = $text =~ /^([\d.]+) ?([KMG]?)$/
        or return fail("$what: $text");
    my $shown = $number * { '' => 1, K => 1024, M => 1024**2,
                            G => 1024**3 }->{$unit};
    return cmp_ok(abs($shown - $bytes), '<=', $bytes / 15,
                  "$what: $text is $bytes");
}

sub same_time {
    my ($text, $is, $what) = @_;
    my $shown = shown_time($text);
    return is($text, '-', "$what: nothing") if !defined $is;
    return ok(defined $shown && abs($shown - $is) <= 0.006 * $is + 1e-6,
              "$what: $text is $is");
}

sub same_in_table {
    my ($said, $cells) = @_;
    my $of = sub { $_[1] ? "$_[0] of $_[1]" : $_[0] };
    my @failures = map { "$said->{outcomes}{$_} "
                             . (tr/_/ /r =~ s/fastcgi/FastCGI/r) }
        grep { $_ ne 'done' && $said->{outcomes}{$_} } @OUTCOMES;
    is_deeply([@$cells[0 .. 6]],
              [$of->(@$said{qw(in_use max)}), $of->(@$said{qw(idle keepalive)}),
               $of->(@$said{qw(waiting queue)}), @$said{qw(parked requests)},
               join(', ', @failures), $said->{returns}], 'the cells');
    is_size($cells->[7], $said->{bytes_sent}, 'sent');
    is_size($cells->[8], $said->{bytes_received}, 'received');
    my $i = 9;
    for my $span (qw(wait first_byte total)) {
        my @shown = split m{ / }, $cells->[$i++];
        same_time($shown[$_], $said->{latency}{$span}{ ('p50', 'p99')[$_] },
                  "$span, " . ('median', '99 %')[$_]) for 0, 1;
    }
    return;
}

sub same_on_page {
    my ($said, $section) = @_;
    my $limit = sub { $_[0] ? " of $_[0]" : '' };
    like($section, qr/^\Q@{[ $said->{name} ? "$said->{name} " : '' ]}\E
         \Q$said->{backend}\E/x, 'names');
    my $connections = "Connections $said->{in_use} in use"
        . $limit->($said->{max}) . " idle $said->{idle}"
        . $limit->($said->{keepalive})
        . ($said->{max} ? " requests in line $said->{waiting} of "
                          . $said->{queue} : '')
        . " waiting without a thread $said->{parked}";
    like($section, qr/\Q$connections\E Requests $said->{requests} /,
         'connections and requests');
    my ($sent, $received) = $section =~ / sent (.+?) received (.+?) on kept /;
    is_size($sent, $said->{bytes_sent}, 'sent');
    is_size($received, $said->{bytes_received}, 'received');
    my $times = $section =~ s/.* Times //r;
    my %word = (wait => 'connection', first_byte => 'first byte',
                total => 'total');
    for my $span (sort keys %SPANS) {
        my @shown = $times
            =~ /$word{$span} ((?:[\d.]+ (?:s|ms|us)|-)) ((?:[\d.]+ (?:s|ms|us)|-)) ((?:[\d.]+ (?:s|ms|us)|-))/;
        same_time($shown[$_] // '', $said->{latency}{$span}{ (qw(p50 p90 p99))[$_] },
                  "$span, " . (qw(p50 p90 p99))[$_]) for 0 .. 2;
    }
    my $failures = join '', map { " $_->[0] $_->[1]" } grep { $_->[1] }
        (map { [tr/_/ /r =~ s/fastcgi/FastCGI/r, $said->{outcomes}{$_}] }
         @OUTCOMES[1 .. $#OUTCOMES]),
        ['sent once more', $said->{sent_again}],
        ['restarts survived', $said->{returns}];
    like($section, qr/ Failures $said->{failed} failed\Q$failures\E$/,
         'failures');
    return;
}

# Bars of a path that show these values, to a tenth of a line: how a half is
# rounded is another's choice. No others are there.
sub are_bars {
    my ($path, $what, $highest, @values) = @_;
    my %is;
    $path =~ s/M(\d+) 40v-([\d.]+)h\.9v\2z/$is{$1} = $2; ''/ge;
    my %wanted = map { $values[$_]
                           ? ($_ => 1 + 39 * $values[$_] / ($highest || 1))
                           : () } 0 .. $#values;
    return is_deeply([$path, sort keys %is], ['', sort keys %wanted],
                     "$what: the bars")
        && ok(!(grep { abs($is{$_} - $wanted{$_}) > 0.0501 } keys %is),
              "$what: their heights");
}

# Whether these, above the lowest line, show so many in three bars and those
# of the others when so many have the highest.
sub are_heights {
    my ($highest, $heights, $three, $others) = @_;
    my $line = $highest / 39;           # so many requests, known to a 20th
    return abs($three - $line * sum0(@$heights[0 .. 2])) <= 0.151 * $line
        && !grep { abs($others->[$_] - $line * $heights->[3 + $_])
                       > 0.051 * $line } 0 .. $#$others;
}

# The pictures of a backend: its last minutes, and how long requests took.
sub same_in_pictures {
    my ($said, $samples, $section) = @_;
    my ($use, $fail, $times) = $section =~ /<path class="\w+" d="([^"]*)"/g;
    my ($requests, $failed) = map { [@{ $said->{history}{$_} }[0 .. 119]] }
        qw(requests failed);
    my $highest = max(@$requests);
    are_bars($use, 'requests', $highest, @$requests);
    are_bars($fail, 'those that failed', $highest, @$failed);

    # all that Prometheus says of the first three, below 256 us, is their sum
    my @heights = (0) x 22;
    $heights[$1] = $2 - 1 while $times =~ /M(\d+) 40v-([\d.]+)h/g;
    my $count = $said->{latency}{total}{count};
    my $family = 'fcgi_backend_request_seconds_bucket{' . labels($said);
    my @below = map {
        $samples->{sprintf '%s,le="%.6f"}', $family, 2**$_ / 1e6};
    } 8 .. 26;
    my @known = ((map { $below[$_] - $below[$_ - 1] } 1 .. 18),
                 $count - $below[18]);
    ok((grep { are_heights($_, \@heights, $below[0], \@known) } 1 .. $count || 1),
       "the picture of times: @heights are $below[0], @known");
    return;
}

# The last minutes of all backends, which move on every five seconds.
sub histories {
    my ($all) = @_;
    return JSON::PP->new->canonical->encode(
        [map { $_->{history} } @{ $all->{backends} }]);
}

subtest 'all forms say the same' => sub {
    my ($all, $page, $again);
    Private::wait_until($PATIENCE, sub {        # in one moment
        ($all, $page, $again) = (json_of($httpd), text_of($httpd, ''),
                                 json_of($httpd));
        histories($all) eq histories($again);
    });
    my $metrics = prometheus_of($httpd);
    my $httpd_says = Client->get($httpd->port, '/server-status');
    my $html = $httpd_says->body;
    my $rows = parse_table($html);
    my ($general, $lines) = parse_lines(
        Client->get($httpd->port, '/server-status?auto')->body);
    my $notable = Client->get($httpd->port, '/server-status?notable')->body;
    my ($pre) = $notable =~ m{<h2>FastCGI backends</h2>\s*<pre>(.*?)</pre>}s;
    my ($general_pre, $lines_pre) = parse_lines($pre // '');
    my $count = @{ $all->{backends} };

    is_deeply($general, { FcgiBackends => $count, FcgiRestarts => 0,
                          FcgiVersion => $VERSION },
              'mod_status: all backends');
    is_deeply($general_pre, $general, 'without a table, too');
    is(scalar keys %$_, $count, 'all are there')
        for $rows, $lines, $lines_pre;
    is(scalar(() = $page =~ /<section>/g), $count, 'and on the page');
    is($all->{version}, $VERSION, 'JSON: the version');
    is($metrics->{samples}{qq(fcgi_build_info{version="$VERSION"})}, 1,
       'Prometheus, too');
    like($_, qr/\bmod_fastcgi_handler \Q$VERSION\E\b/, 'and a page')
        for $page, $html;
    unlike($httpd_says->header('Server') // '', qr/fcgi|fastcgi/i,
           'no client is told more than that it is httpd');
    is($metrics->{samples}{fcgi_accounts_restarts_total}, 0,
       'Prometheus: restarts');
    is(us($metrics->{samples}{fcgi_accounts_start_time_seconds}),
       us($all->{since}), 'Prometheus: since');
    is_deeply($metrics->{types}, {
        fcgi_build_info => 'gauge',
        fcgi_accounts_start_time_seconds => 'gauge',
        fcgi_accounts_restarts_total => 'counter',
        fcgi_backend_requests_total => 'counter',
        (map { ("fcgi_backend_$_->[2]" => $_->[3]) }
         grep { $_->[2] } @NUMBERS),
        (map { ("fcgi_backend_$_->[1]" => 'histogram') } values %SPANS),
    }, 'Prometheus: types');
    for my $said (@{ $all->{backends} }) {
        my $name = $said->{backend};
        subtest $name => sub {
            same_in_prometheus($said, $metrics->{samples});
            same_in_lines($said, $lines->{$name});
            same_in_lines($said, $lines_pre->{$name});
            same_in_table($said, $rows->{
                $said->{name} ? "$said->{name} $name" : $name });
            same_on_page($said, section_of($page, $name));
            same_in_pictures($said, $metrics->{samples},
                             html_section_of($page, $name));
        };
    }
};

# ---- restarts and deaths of httpd's processes ----

# Restarts httpd and waits until no child of before takes connections: they
# have ended but for the one that serves a request.
sub restart_gracefully {
    my ($serving) = @_;
    my @old = grep { $_ != ($serving // 0) } $httpd->pids;
    $httpd->graceful;
    return Private::wait_until($PATIENCE, sub { !kill 0, @old });
}

# The child that has this request.
sub child_that_serves {
    my ($id) = @_;
    my $said = qr/\[pid (\d+)\].*stderr: serves \Q$id\E/;
    $httpd->wait_for_log($said);
    return ($httpd->error_log =~ $said)[0];
}

subtest 'a graceful restart of httpd' => sub {
    my $before = json_of($httpd);
    my $conn = send_to_busy('old');
    is($busy->wait_report('begun', $PATIENCE), 'old', 'one runs');
    my $file = $httpd->root . '/httpd.conf';
    my $text = Private::slurp($file);
    $text =~ s/^FcgiBackend (?:never|busy) .*\n//mg;
    $text =~ s/^<Location \/busy>.*?<\/Location>\n//ms;
    Private::spew($file, $text . "FcgiBackend fcgi:/nowhere/new.sock max=1\n");
    ok(restart_gracefully(child_that_serves('old')), 'old children end');
    my $after;
    Private::wait_until($PATIENCE, sub {        # that one may take one more
        $after = json_of($httpd);
        backend_in($after, 'fcgi:/nowhere/new.sock');
    });
    is($after->{restarts}, 1, 'one restart');
    is($after->{since}, $before->{since}, 'counting goes on');
    for my $was (@{ $before->{backends} }) {
        next if $was->{name} =~ /^(?:busy|never)$/;
        my $is = backend_in($after, $was->{backend});
        delete @$_{qw(history idle)} for $is, $was; # old children close theirs
        is_deeply($is, $was, "$was->{backend}: as before");
    }
    ok(!backend_in($after, 'fcgi:/nowhere/never.sock'),
       'one that nobody names or asked is not shown');
    ok(backend_in($after, 'fcgi:/nowhere/new.sock'), 'a new one is');
    my $old = numbers_are($httpd, $busy->handler,
                          { in_use => 1, idle => 0, requests => 8, max => 0,
                            queue => 0, keepalive => 0 },
                          'one that was asked is, with what old children hold');
    is($old->{configured}, JSON::PP::false, 'not configured any more');
    is($old->{name}, '', 'without its name');
    $busy->release('old');
    is($conn->read_response->status, 200, 'it is answered');
    numbers_are($httpd, $busy->handler, { in_use => 0, requests => 9 },
                'and counted');

    $text =~ s/^GracefulShutdownTimeout/FcgiBackend busy @{[ $busy->handler ]} max=5\n$&/m;
    $text .= "<Location /busy>\nSetHandler fcgi:busy\n</Location>\n";
    Private::spew($file, $text);
    ok(restart_gracefully(), 'old children end');
    $old = numbers_are($httpd, 'busy', { requests => 9, max => 5 },
                       'named again, it has its counts');
    is($old->{configured}, JSON::PP::true, 'and is configured');
    is(json_of($httpd)->{restarts}, 2, 'two restarts');
    my (undef, $lines) = parse_lines(
        Client->get($httpd->port, '/server-status?auto')->body);
    is($lines->{ $busy->handler }{Requests}, 9, 'in mod_status, too');
    like(plain(text_of($httpd, '')), qr/ 2 restarts of httpd since /,
         'on the page');
};

subtest 'a child is killed' => sub {
    my $conn = send_to_busy('killed');
    is($busy->wait_report('begun', $PATIENCE), 'killed', 'one runs');
    numbers_are($httpd, 'busy', { in_use => 1, parked => $CAN_PARK ? 1 : 0 },
                'in use');
    my $pid = child_that_serves('killed');
    ok(Private::wait_until($PATIENCE, sub { (my @pids = $httpd->pids) > 1 }),
       'another child can say so');
    kill 'STOP', $httpd->pid;   # so that no new child takes its number over
    ok($httpd->kill_children($pid), 'it is killed');
    my $from = time;
    numbers_are($httpd, 'busy', { in_use => 0, waiting => 0, parked => 0,
                                  requests => 9 },
                'what it held is given back');
    note sprintf 'after %.0f ms', 1000 * (time - $from);
    kill 'CONT', $httpd->pid;
    $busy->release('killed');
};

$httpd->stop_gracefully;
unlike($httpd->words =~ s/exit signal Killed//gr,
       qr/exit signal|Sanitizer|runtime error/, 'no other child crashed');

# ---- who may see it, and how; without mod_status ----

my $secret = 'FastCGI backends of';
my %own = (
    'Location' => "<Location /own0>\nH\n</Location>",
    'LocationMatch' => "<LocationMatch ^/own1>\nH\n</LocationMatch>",
    'Directory' => "<Directory \@DOCROOT@/own2>\nH\n</Directory>",
    'Files' => "<Files own3>\nH\n</Files>",
    'Files in Directory' =>
        "<Directory \@DOCROOT@>\n<Files own4>\nH\n</Files>\n</Directory>",
    'If' => "<If \"%{REQUEST_URI} =~ m#^/own5#\">\nH\n</If>",
    'If in Location' => "<Location /own6>\n<If true>\nH\n</If>\n</Location>",
    'an expression' => "<Location /own7>\nSetHandler \"fcgi-%{HTTP:X-What}\"\n"
        . '</Location>',
);
my @own = ('Location', 'LocationMatch', 'Directory', 'Files',
           'Files in Directory', 'If', 'If in Location', 'an expression');

# A .htaccess file's ways to the handler, and where they are.
my %foreign = (
    SetHandler => 'SetHandler fcgi-status',
    'SetHandler in Files' => "<Files x>\nSetHandler fcgi-status\n</Files>",
    'SetHandler in If' => "<If true>\nSetHandler fcgi-status\n</If>",
    AddHandler => 'AddHandler fcgi-status .y',
    RewriteRule => "RewriteEngine On\nRewriteRule ^ - [H=fcgi-status]",
    'a variable of SetHandler' => 'SetEnvIf Host . H=fcgi-status',
);
my @foreign = sort keys %foreign;

# Where the server's SetHandler takes what a .htaccess file gives.
my ($given) = grep { $foreign[$_] =~ /^a variable/ } 0 .. $#foreign;

my $plain = Httpd->start(
    modules => ['rewrite'],
    vars => { GIVEN => "foreign$given" },
    files => {
        (map { ("own$_" . ($_ == 2 ? '/x' : '') => 'a file') }
         0 .. $#own),
        (map { ("foreign$_/.htaccess" => $foreign{ $foreign[$_] },
                "foreign$_/x.y" => 'a file', "foreign$_/x" => 'a file') }
         0 .. $#foreign),
        'added/a.status' => 'a file', 'host/x' => 'a file',
    },
    config => join("\n", @own{@own}) =~ s/^H$/SetHandler fcgi-status/mgr
        . <<'EOC');

<Location /fcgi-status>
  SetHandler fcgi-status
</Location>
<Location /closed>
  SetHandler fcgi-status
  Require all denied
</Location>
<Location /local>
  SetHandler fcgi-status
  Require ip 192.0.2.1
</Location>
<Directory @DOCROOT@/added>
  AddHandler fcgi-status .status
</Directory>
<Directory @DOCROOT@/@GIVEN@>
  SetHandler "%{reqenv:H}"
</Directory>
<VirtualHost *>
  ServerName localhost
  RewriteEngine On
  RewriteRule ^/rewritten$ - [H=fcgi-status]
</VirtualHost>
<VirtualHost *>
  ServerName elsewhere
  <Directory @DOCROOT@/host>
    SetHandler fcgi-status
  </Directory>
</VirtualHost>
EOC

subtest 'without any backend' => sub {
    is_deeply(json_of($plain)->{backends}, [], 'JSON: none');
    is_valid_prometheus($plain, 'no backend');
    is($_, undef, 'no sample of a backend') for
        grep { /^fcgi_backend_/ } keys %{ prometheus_of($plain)->{samples} };
    like(plain(text_of($plain, '')), qr/names no backend/, 'the page says so');
};

subtest 'a socket whose folder comes later, through a link' => sub {
    my $dir = Private::temp_dir('later');
    symlink "$dir/folder", "$dir/link" or die $!;
    my $httpd = Httpd->start(vars => { DIR => $dir }, config => <<'EOC');
FcgiConnectTimeout 50ms
<Location /app>
  SetHandler fcgi:@DIR@/link/app.sock
</Location>
<Location /fcgi-status>
  SetHandler fcgi-status
</Location>
EOC
    is(Client->get($httpd->port, '/app')->status, 503, 'it is not there');
    mkdir "$dir/folder", 0755 or die $!;
    my $app = FcgiApp->start(sub {
        my ($c) = @_;
        $c->reply("Content-Type: text/plain\r\n\r\nhere")
            if $c->read_request(10);
    }, transport => 'unix', socket => "$dir/folder/app.sock");
    my @before = $httpd->pids;
    $httpd->graceful;
    # a child of before knows it by another name
    ok(Private::wait_until($PATIENCE, sub {
        my %there = map { $_ => 1 } $httpd->pids;
        !grep { $there{$_} } @before;
    }), 'the children of before have ended');
    is(Client->get($httpd->port, '/app')->body, 'here', 'now it is');
    my @backends;
    Private::wait_until($PATIENCE, sub {
        @backends = @{ json_of($httpd)->{backends} };
        grep { $_->{outcomes}{done} } @backends;
    });
    is(scalar @backends, 1, 'one backend');
    is($backends[0]{backend}, "fcgi:$dir/link/app.sock", 'as configured');
    is($backends[0]{outcomes}{done}, 1, 'its numbers');
    is_valid_prometheus($httpd, 'and no sample twice');
    $httpd->leave;
};

subtest "where the server's own files have it" => sub {
    for my $i (0 .. $#own) {
        my $answer = Client->get($plain->port,
                                 "/own$i" . ($i == 2 ? '/x' : ''),
                                 'X-What' => 'status');
        is($answer->status, 200, $own[$i]);
        like($answer->body, qr/$secret/, 'the status');
    }
    my $answer = Client->get($plain->port, '/host/x', Host => 'elsewhere');
    like($answer->body, qr/$secret/, 'in a VirtualHost');
    $answer = Client->get($plain->port, '/host/x');
    is($answer->body, 'a file', 'and not in another');
};

subtest 'Require holds' => sub {
    for my $path (qw(/closed /closed?json /closed?prometheus /local)) {
        my $answer = Client->get($plain->port, $path);
        is($answer->status, 403, $path);
        unlike($answer->body, qr/$secret|fcgi_|backends/, 'nothing is told');
    }
};

subtest 'where it is refused' => sub {
    my %ways = (
        (map { my $name = $foreign[$_];
               (".htaccess: $name" => "/foreign$_/x"
                . ($name eq 'AddHandler' ? '.y' : '')) } 0 .. $#foreign),
        "the server's AddHandler" => '/added/a.status',
        "the server's RewriteRule" => '/rewritten',
    );
    for my $way (sort keys %ways) {
        my $before = length $plain->error_log;
        for my $query ('', '?json', '?prometheus') {
            my $answer = Client->get($plain->port, $ways{$way} . $query);
            is($answer->status, 500, "$way$query");
            unlike($answer->body, qr/$secret|fcgi_|"backends"/,
                   'nothing is told');
        }
        my @lines = substr($plain->error_log, $before)
            =~ /(FCGI13: handler 'fcgi-status': refused)/g;
        is(scalar @lines, 3, 'the log says so');
    }
};

subtest 'methods' => sub {
    my $do = sub {
        my ($method, $more) = @_;
        return Client->request($plain->port, "$method /fcgi-status HTTP/1.1\r\n"
            . "Host: x\r\nConnection: close\r\n" . ($more // "\r\n"));
    };
    my $get = $do->('GET');
    my $head = $do->('HEAD');
    is($head->status, 200, 'HEAD');
    ok($head->complete && $head->raw !~ /<html/, 'no body');
    is($head->header($_), $get->header($_), "the same $_")
        for qw(Content-Type Cache-Control Content-Security-Policy);
    for my $method (qw(POST PUT DELETE PATCH STRANGE)) {
        my $answer = $do->($method, "Content-Length: 3\r\n\r\nabc");
        is($answer->status, 405, $method);
        is(join(',', sort grep { $_ ne 'TRACE' } split /[, ]+/,
                $answer->header('Allow') // ''), 'GET,HEAD,OPTIONS', 'Allow');
        unlike($answer->body, qr/$secret/, 'no status');
    }
    my $options = $do->('OPTIONS');
    is($options->status, 200, 'OPTIONS');
    is(join(',', sort grep { $_ ne 'TRACE' } split /[, ]+/,
            $options->header('Allow') // ''), 'GET,HEAD,OPTIONS', 'Allow');
    is($options->body, '', 'no status');
};

subtest 'header fields' => sub {
    my %type = ('' => 'text/html; charset=utf-8',
                '?json' => 'application/json',
                '?prometheus' => 'text/plain; version=0.0.4; charset=utf-8');
    for my $query (sort keys %type) {
        my $answer = Client->get($plain->port, "/fcgi-status$query");
        is($answer->header('Content-Type'), $type{$query},
           "'$query': Content-Type");
        is($answer->header('Cache-Control'), 'no-store', 'not stored');
        is($answer->header('X-Content-Type-Options'), 'nosniff', 'nosniff');
        my $policy = $answer->header('Content-Security-Policy') // '';
        like($policy, qr/default-src 'none'/, 'nothing from elsewhere');
        unlike($policy, qr/script-src|img-src|https?:/, 'really nothing');
    }
};

subtest 'the query' => sub {
    my %refresh = (
        '' => 5, '?' => 5, '?refresh=0' => 0, '?refresh=7' => 7,
        '?refresh=86400' => 86400, '?refresh=86401' => 5,
        '?refresh=-1' => 5, '?refresh=-0' => 5,
        '?refresh=99999999999999999999' => 5,
        '?refresh=-99999999999999999999' => 5, '?x=1&refresh=7' => 7,
        '?refresh=7&x=1' => 7,
        '?x=1;refresh=7' => 7, '?refresh=7;x=1' => 7, '?refreshing=7' => 5, '?xrefresh=7' => 5,
        '?refresh=junk' => 5, '?refresh=' => 5, '?refresh' => 5,
        '?refresh=7"><script>' => 5, '?&&&' => 5, '?%00' => 5,
    );
    for my $query (sort keys %refresh) {
        my $answer = Client->get($plain->port, "/fcgi-status$query");
        is($answer->status, 200, "'$query'") or next;
        my ($seconds) = $answer->body
            =~ /<meta http-equiv="refresh" content="([^"]*)">/;
        is($seconds // 0, $refresh{$query}, 'refreshes itself');
        unlike($answer->body, qr/<script/, 'nothing of the query is in it');
    }
    for my $query (qw(?json&refresh=7 ?refresh=7&json ?json=1 ?json&prometheus
                      ?refresh=0&json)) {
        my $answer = Client->get($plain->port, "/fcgi-status$query");
        is($answer->header('Content-Type'), 'application/json', $query);
        is($answer->header('Refresh'), undef, 'no Refresh');
        is_deeply(JSON::PP->new->decode($answer->body)->{backends}, [],
                  'JSON');
    }
    for my $query (qw(?jsonx ?xjson ?prometheusx)) {
        like(text_of($plain, $query), qr/^<!DOCTYPE html>/, "$query: a page");
    }
    my $answer = Client->get($plain->port, '/fcgi-status', Host =>
                             'localhost"><script>alert(1)</script>');
    unlike($answer->body, qr/<script>alert/, 'nothing of the Host, either');
};

$plain->ok_healthy;
Httpd->ok_left;
done_testing;
