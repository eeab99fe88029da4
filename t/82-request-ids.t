# What comes late for one request is never taken for the next one's answer.
# Licensed under the Apache License, Version 2.0; see LICENSE.

use strict;
use warnings;
use FindBin qw($Bin);
use lib "$Bin/lib";
use Client;
use Django;
use FcgiApp;
use FcgiClient;
use FcgiWire;
use Httpd;
use PhpFpm;
use Private;
use Test::More;

my $HEAD = "Content-Type: text/plain\r\n\r\n";
my $SECRET = "${HEAD}SECRET";

# One process of httpd serves all requests.
my $ONE = Httpd::mpm() eq 'prefork' ? <<'EOC' : undef;
StartServers 1
ServerLimit 4
MinSpareServers 1
MaxSpareServers 1
MaxRequestWorkers 1
EOC

# What an application writes for a request that it has ended, as records of
# that id, when the next one is here.
my %late = (
    none   => sub { '' },
    stdout => sub { $_[0]->records(FCGI_STDOUT, $_[1], $SECRET) },
    stderr => sub { $_[0]->records(FCGI_STDERR, $_[1], "SECRET\n") },
    whole  => sub {
        my ($c, $id) = @_;
        return join '', map { $c->record(@$_) }
            [FCGI_STDOUT, $id, $SECRET], [FCGI_STDOUT, $id, ''],
            [FCGI_END_REQUEST, $id, "\0" x 8];
    },
    end    => sub { $_[0]->record(FCGI_END_REQUEST, $_[1], "\0" x 8) },
    # before, among and behind the records of the answer
    among  => sub { $_[0]->records(FCGI_STDOUT, $_[1], $SECRET, chunk => 3) },
);

# A request whose URL names what is late, and by how many requests.
sub answer_late {
    my ($c) = @_;
    my @ids;
    while (my $request = $c->read_request(60)) {
        my ($name) = $request->{params}{REQUEST_URI} =~ m{([^/]+)$};
        my ($kind, $back) = $name =~ /^(\w+?)(\d?)$/;
        my $late = $kind eq 'unknown'
            ? $c->records(FCGI_STDOUT, 77, $SECRET)
            : $kind eq 'zero' ? $c->records(FCGI_STDOUT, 0, $SECRET)
            : $kind eq 'zeroend'
            ? $c->record(FCGI_END_REQUEST, 0, "\0" x 8)
            : @ids ? $late{$kind}->($c, $ids[-($back || 1)] // $ids[0]) : '';
        push @ids, $c->{id};
        $c->send($late);
        $c->stdout("${HEAD}answer of $name");
        $c->send($late) if $kind eq 'among';
        $c->reply(" nr=@{[ scalar @ids ]} ids=@ids");
    }
    return;
}

# It says what came, until the request is ended or given up.
sub wait_for_abort {
    my ($c) = @_;
    while (my $request = $c->read_params(60)) {
        my $id = $c->{id};
        if ($request->{params}{REQUEST_URI} =~ /whole/) {
            1 while $c->read_record->{content} ne '';
            $c->reply("${HEAD}whole");
            next;
        }
        $c->report(begun => $id);
        while (my $record = $c->read_record(30)) {
            $c->report(aborted => "$record->{id} of $id")
                if $record->{type} == FCGI_ABORT_REQUEST;
        }
        return;
    }
    return;
}

# An application that does not look at ids.
sub answer_as_one {
    my ($c) = @_;
    while ($c->read_request(60)) {
        $c->{id} = 1;
        $c->reply("${HEAD}one");
    }
    return;
}

my %app = (
    late => FcgiApp->start(\&answer_late, workers => 4),
    abort => FcgiApp->start(\&wait_for_abort, workers => 4),
    one => FcgiApp->start(\&answer_as_one, workers => 4),
);
my $locations = join '', map {
    "FcgiBackend " . $app{$_}->address . " keepalive=2\n"
    . "<Location /$_/>\nSetHandler " . $app{$_}->handler . "\n</Location>\n"
} sort keys %app;
my $httpd = Httpd->start(mpm => $ONE, config => <<"EOC");
$locations
<Location /one/>
  FcgiTimeout 1
</Location>
EOC

subtest 'each has the next id' => sub {
    for my $nr (1 .. 5) {
        my $ids = join ' ', 1 .. $nr;
        is(Client->get($httpd->port, '/late/none')->body,
           "answer of none nr=$nr ids=$ids", "request $nr");
    }
};

for my $name (grep { !/^(?:none|whole|end)$/ } sort keys %late) {
    subtest "late: $name" => sub {
        for my $before (1, 2) {
            $app{late}->restart;
            Client->get($httpd->port, '/late/none') for 1 .. $before;
            my $count = $app{late}->connections;
            my @warned = $httpd->error_log =~ /FCGI19: /g;
            my $answer = Client->get($httpd->port, "/late/$name");
            is($answer->status, 200, "behind $before: its status");
            like($answer->body, qr/^answer of $name nr=@{[ $before + 1 ]} /,
                 'its answer, on a kept connection');
            unlike($answer->raw, qr/SECRET/, 'and nothing else');
            my @now = $httpd->error_log =~ /FCGI19: /g;
            is(@now - @warned, 1, 'one warning');
            is($app{late}->connections, $count, 'on the connection');
            Client->get($httpd->port, '/late/none');
            is($app{late}->connections, $count + 1, 'which is not kept');
        }
    };
}

subtest 'late by more than one' => sub {
    for my $back (2, 3) {
        $app{late}->restart;
        Client->get($httpd->port, '/late/none') for 1 .. $back;
        my $answer = Client->get($httpd->port, "/late/stdout$back");
        is($answer->body, "answer of stdout$back nr=@{[ $back + 1 ]} ids="
           . join(' ', 1 .. $back + 1), "by $back: its answer alone");
    }
};

# It may as well be the only one that ever comes, see below.
for my $name (qw(whole end)) {
    subtest "a late END_REQUEST: $name" => sub {
        for my $before (1, 2) {
            $app{late}->restart;
            Client->get($httpd->port, '/late/none') for 1 .. $before;
            my $answer = Client->get($httpd->port, "/late/$name");
            is($answer->status, 502, "behind $before: an error");
            unlike($answer->raw, qr/SECRET/, 'and nothing else');
            is(Client->get($httpd->port, '/late/none')->body,
               'answer of none nr=1 ids=1', 'the next connection is new');
        }
    };
}

subtest 'an id that no request of the connection has' => sub {
    for my $before (0, 1, 2) {
        $app{late}->restart;
        Client->get($httpd->port, '/late/none') for 1 .. $before;
        my $answer = Client->get($httpd->port, '/late/unknown');
        is($answer->status, 502, "behind $before: an error");
        unlike($answer->raw, qr/SECRET/, 'and nothing else');
        like($httpd->error_log, qr/FCGI04: .*\b77\b/, 'the log names it');
    }
    for my $name (qw(zero zeroend)) {
        for my $before (0, 1) {
            $app{late}->restart;
            Client->get($httpd->port, '/late/none') for 1 .. $before;
            my $answer = Client->get($httpd->port, "/late/$name");
            is($answer->status, 502, "$name behind $before: the same");
            unlike($answer->raw, qr/SECRET/);
            like($httpd->error_log, qr/FCGI04: .*for request 0 on/);
        }
    }
};
unlike($httpd->error_log, qr/SECRET/, 'nor is any of it in the log');

subtest 'a request that is given up' => sub {
    for my $nr (1 .. 3) {
        is(Client->get($httpd->port, '/abort/whole')->body, 'whole',
           'before it') for 2 .. $nr;
        my $conn = Client->connect($httpd->port);
        $conn->send("GET /abort/x HTTP/1.1\r\nHost: x\r\n\r\n");
        my $id = $app{abort}->wait_report('begun');
        is($id, $nr, "request $nr");
        $conn->close;
        is($app{abort}->wait_report('aborted'), "$id of $id",
           'is given up by its id');
    }
};

subtest 'an application that does not look at ids' => sub {
    my $before = () = $httpd->error_log =~ /FCGI04/g;
    is(Client->get($httpd->port, '/one/x')->body, 'one', 'the first');
    for my $nr (2, 4, 6) {
        is(Client->get($httpd->port, '/one/y')->status, 502, "number $nr");
        is(Client->get($httpd->port, '/one/x')->body, 'one',
           'the next, on a new connection');
    }
    my @lines = $httpd->error_log =~ /FCGI04: \S+ (.*)/g;
    is(@lines - $before, 3, 'one line each');
    like($_, qr/END_REQUEST for request 1 on .* only request 2 /, 'says why')
        for @lines[$before .. $#lines];
    unlike($httpd->error_log, qr/FCGI02/, 'no time limit was over');
};

# ---- real applications ----

# An application writes the id that it is asked with.
sub echoes_ids {
    my ($address, %params) = @_;
    %params = (REQUEST_METHOD => 'GET', SERVER_PROTOCOL => 'HTTP/1.1',
               REQUEST_URI => '/', SCRIPT_NAME => '', PATH_INFO => '/',
               QUERY_STRING => '', SERVER_NAME => 'x', SERVER_PORT => 80,
               %params);
    my $pairs = FcgiWire::encode_pairs(map { [$_, $params{$_}] }
                                           sort keys %params);
    for my $id (1, 2) {
        my $wire = FcgiClient::connect($address);
        $wire->send(join '', map { $wire->record(@$_) }
            [FCGI_BEGIN_REQUEST, $id, pack 'nCx5', FCGI_RESPONDER,
             FCGI_KEEP_CONN],
            [FCGI_PARAMS, $id, $pairs], [FCGI_PARAMS, $id, ''],
            [FCGI_STDIN, $id, '']);
        my (%ids, $record);
        do {
            $record = $wire->read_record or return fail('no END_REQUEST');
            $ids{ $record->{id} }++;
        } while ($record->{type} != FCGI_END_REQUEST);
        is_deeply([keys %ids], [$id], "asked with id $id");
    }
    return;
}

# Five requests on one connection.
sub are_answered {
    my ($address, $config, $path, $expected) = @_;
    my $server = Httpd->start(
        mpm => $ONE, access_format => 'reused=%{fcgi-reused}n',
        vars => { ADDRESS => $address }, config => <<"EOC",
FcgiBackend \@ADDRESS\@ keepalive=1
$config
EOC
        files => { 'a.php' => '<?php echo "PHP"; error_log("word");' });
    for my $nr (1 .. 5) {
        my $answer = Client->get($server->port, $path);
        is($answer->status, 200, "request $nr");
        like($answer->body, $expected, 'its answer');
    }
    $server->wait_for_access(qr/(?:reused.*\s){5}/);
    # a line may be written after that of the next
    is(join('', sort $server->access_log =~ /.+\n/g),
       "reused=0\n" . "reused=1\n" x 4, 'on one connection');
    unlike($server->error_log, qr/FCGI19/, 'that is in order');
    $server->leave;
    return;
}

subtest 'PHP-FPM' => sub {
    plan skip_all => 'no php-fpm here' if !PhpFpm::program();
    my $php = PhpFpm->start;
    echoes_ids($php->address, SCRIPT_FILENAME => '/none.php');
    are_answered($php->address, 'AddHandler @PHP@ .php'
                 =~ s/\@PHP\@/$php->handler/er, '/a.php', qr/^PHP$/);
};

subtest 'libfcgi' => sub {
    plan skip_all => 'no libfcgi here' if !-e '/usr/include/fcgiapp.h';
    my $dir = Private::temp_dir('libfcgi');
    my ($failed, $output) = Private::run(
        $ENV{CC} || 'cc', '-o', "$dir/echo", "$Bin/unit/echo_app.c", '-lfcgi');
    die $output if $failed;
    Private::spawn(log => "$dir/log", exec => ["$dir/echo", "$dir/sock"]);
    Private::wait_until(5, sub { FcgiClient::connect("$dir/sock") });
    chmod 0777, "$dir/sock";
    echoes_ids("$dir/sock");
    are_answered("$dir/sock", <<"EOC", '/echo/x', qr/^PATH_INFO=\/x$/m);
<Location /echo>
  SetHandler fcgi:$dir/sock
</Location>
EOC
};

subtest 'uWSGI' => sub {
    my $missing = Django::missing();
    plan skip_all => "no $missing here" if $missing;
    echoes_ids(Django->start->address);
};

$httpd->leave;
Httpd->ok_left;
done_testing;
