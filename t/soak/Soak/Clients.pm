# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# The clients of a soak, a process each: every request another one at random,
# every answer compared byte by byte with what the application was asked for.
#
#     my $clients = Soak::Clients->start(httpd => $httpd, php => 1, h2 => 1,
#                                        count => 8, seed => 1, round => 1);
#     my @results = $clients->finish;     # hashes, see note()
#
# A result's verdict:
#     right    whole and as expected, be it an error
#     cut      of an answer that the application broke, and it looks cut
#     left     the client did not wait for it
#     lost     an error or a cut that the application is not the reason of
#     wrong    whole, and not what the application said; or a part is not
package Soak::Clients;

use strict;
use warnings;
use Client;
use Digest::MD5 qw(md5_hex);
use Private;
use Soak::Application qw(@GOOD %BROKEN);
use Soak::Pages;
use Socket qw(SOL_SOCKET SO_RCVBUF);
use Time::HiRes qw(sleep time);

my $PATIENCE = 120;     # seconds for one answer
my $PAUSE = 0.03;       # seconds between two requests, at the most
my $MB = 1024 * 1024;
my @FIELDS = qw(verdict asked ended kind path method how id status error);

# ---- all of them, for the test ----

sub start {
    my ($class, %opt) = @_;
    my $self = bless { %opt, dir => Private::temp_dir('soak') }, $class;
    for my $number (1 .. $opt{count}) {
        push @{ $self->{pids} }, Private::spawn(code => sub {
            $self->work($number);
        });
    }
    return $self;
}

# Tells them to stop, and reads what they noted. One that has not finished
# what it had is a result, too.
sub finish {
    my ($self) = @_;
    Private::spew("$self->{dir}/stop", '');
    Private::wait_until($PATIENCE + 30, sub {
        !grep { Private::alive($_) } @{ $self->{pids} }
    });
    my @results;
    for my $number (1 .. $self->{count}) {
        my @lines = split /\n/, Private::slurp("$self->{dir}/$number");
        push @results, map {
            my %result;
            @result{@FIELDS} = split /\t/;
            \%result;
        } @lines;
        push @results, { verdict => 'lost', kind => 'a client', how => '-',
                         status => 0, error => 'died', asked => time,
                         ended => time, method => '-', path => '-', id => 0 }
            if !@lines || $lines[-1] !~ /^right.*\tfinished$/;
    }
    return @results;
}

sub note {
    my ($self, %result) = @_;
    print { $self->{out} } join("\t", map { $_ // '-' } @result{@FIELDS}),
        "\n";
    return;
}

# ---- one ----

my @KINDS = ((\&ask) x 30, (\&upload) x 10, (\&read_slowly) x 2,
             (\&leave) x 6, (\&half_close) x 3, (\&pipeline) x 3,
             (\&wait_in_vain) x 1, (\&stream) x 4, (\&stream_upload) x 3);

sub work {
    my ($self, $number) = @_;
    srand(($self->{seed} + $self->{round}) * 1000 + $number);
    @$self{qw(number next)} = ($number, 0);
    open $self->{out}, '>', "$self->{dir}/$number" or die $!;
    $self->{out}->autoflush(1);
    my @kinds = (@KINDS, (\&by_curl) x 6, $self->{h2} ? (\&at_once) x 4 : ());
    while (!-e "$self->{dir}/stop") {
        my $kind = $kinds[rand @kinds];
        eval { $kind->($self); 1 } or $self->failed($@);
        sleep rand $PAUSE;
    }
    $self->note(verdict => 'right', map({ $_ => time } qw(asked ended)),
                kind => 'end', error => 'finished');
    return;
}

# What dies is this program's fault, or nobody listens.
sub failed {
    my ($self, $why) = @_;
    $self->{conn} = undef;
    return $self->note(verdict => 'lost', asked => time - 1, ended => time,
                       kind => 'died', error => $why =~ s/\s+/ /gr);
}

sub any { return $_[rand @_] }

# ---- what is asked for ----

sub next_id {
    my ($self) = @_;
    return ($self->{round} * 100 + $self->{number}) * 100_000
        + ++$self->{next};
}

sub size {
    my $dice = rand;
    return 1 + int rand($dice < 0.7 ? 5_000 : $dice < 0.95 ? 100_000 : $MB);
}

# A request of the scripted applications or PHP, unless the path is given.
sub make {
    my ($self, %wish) = @_;
    my $path = $wish{path} // any($self->{php} ? '/page.php' : (),
                                  qw(/one /two /one /two));
    my $broken = $path ne '/page.php' && !$wish{good} && rand() < 0.25;
    my %request = (
        method => 'GET', path => $path, id => $self->next_id, size => size(),
        how => $broken ? any(grep { $_ ne 'silent' } sort keys %BROKEN)
            : $path eq '/page.php' ? 'plain' : any(@GOOD),
        length => int(rand 2), %wish);
    $request{size} = 20 + $request{size} if $broken;
    my $chunk = any(65535, 65535, 8000, 1 + int rand 2000);
    $chunk = 65535 if $request{size} > 20_000 && $chunk < 8000;
    $request{url} = "$path?id=$request{id}&size=$request{size}"
        . "&how=$request{how}&chunk=$chunk&pad=" . int(rand 256)
        . "&length=$request{length}&pause=" . int rand 3000;
    return \%request;
}

sub body_of {
    my ($request) = @_;
    return Soak::Pages::page($request->{id} + 1, $request->{body});
}

sub expected {
    my ($request) = @_;
    return '' if $request->{method} eq 'HEAD';
    my $page = Soak::Pages::page(@$request{qw(id size)});
    return $page if $request->{method} ne 'POST';
    return "got $request->{body} " . md5_hex(body_of($request)) . "\n$page";
}

sub head {
    my ($request, @fields) = @_;
    return join "\r\n", "$request->{method} $request->{url} HTTP/1.1",
        'Host: localhost', @fields, '', '';
}

# ---- what to say of the answer ----

# { complete, status, error, body } against what was expected.
sub judge {
    my ($self, $request, $kind, $answer) = @_;
    my $verdict = verdict($request, $answer, $kind);
    return $self->note(
        %$request, kind => $kind, ended => time, verdict => $verdict,
        status => $answer->{status} || 0,
        error => $verdict eq 'wrong' ? difference($request, $answer)
            : $answer->{complete} ? 'none' : $answer->{error});
}

# Where, and what is there, without the characters that lines end at.
sub difference {
    my ($request, $answer) = @_;
    my $expected = expected($request);
    my $body = $answer->{body};
    my ($same) = ($expected ^ $body) =~ /^(\0*)/;
    my $at = length $same;
    return sprintf 'from %d of %d on: %s (of %d), not %s, body %d',
        $at, length $expected, (map {
            ref $_ ? $$_ : substr($_, $at, 60) =~ s/[^ -~]/_/gr
        } $body, \length($body), $expected), $request->{body} // 0;
}

sub verdict {
    my ($request, $answer, $kind) = @_;
    my $may = $BROKEN{ $request->{how} };
    my $status = $answer->{status} || 0;
    my $expected = expected($request);
    if ($status == 200) {
        my $is_part = index($expected, $answer->{body}) == 0;
        return 'wrong' if !$is_part;
        return $may ? 'cut' : 'lost' if !$answer->{complete};
        return $may || $answer->{body} ne $expected ? 'wrong' : 'right';
    }
    # A stream may be reset before its header left httpd.
    return 'cut' if $may && !$status && $kind =~ /^h2/;
    # a POST is not sent again
    return 'right' if $request->{how} eq 'young' && $status == 502
        && $request->{method} eq 'POST';
    return $answer->{complete} && grep({ $_ == $status } @{ $may || [] })
        ? 'right' : 'lost';
}

# ---- kinds of clients ----

sub connect_anew {
    my ($self, %opt) = @_;
    $self->{conn} = undef;
    return Client->connect($self->{httpd}->port, %opt);
}

# On the connection there is, or a new one: again if it was closed before.
sub ask {
    my ($self) = @_;
    my $request = $self->make;
    $request->{method} = 'HEAD' if !$BROKEN{ $request->{how} } && rand() < 0.1;
    $request->{asked} = time;
    my $answer;
    if ($self->{conn}) {
        $self->{conn}->send(head($request));
        $answer = $self->answer_of($request, $self->{conn});
        $answer = undef if !$answer->{complete} && $answer->{raw} eq '';
    }
    if (!$answer) {
        $self->{conn} = $self->connect_anew;
        $self->{conn}->send(head($request));
        $answer = $self->answer_of($request, $self->{conn});
    }
    $self->{conn} = undef
        if !$answer->{complete} || rand() < 0.2
        || ($answer->header('Connection') // '') =~ /close/i;
    return $self->judge($request, 'ask', $answer);
}

sub answer_of {
    my ($self, $request, $conn) = @_;
    return $conn->read_response(method => $request->{method},
                                timeout => $PATIENCE);
}

sub chunks {
    my ($bytes) = @_;
    my $size = 1 + int rand 20_000;
    return join('', map { sprintf "%x\r\n%s\r\n", length, $_ }
                unpack "(a$size)*", $bytes) . "0\r\n\r\n";
}

# Head and body of a POST.
sub posted {
    my ($request, @fields) = @_;
    my $body = body_of($request);
    return rand() < 0.5
        ? head($request, @fields, "Content-Length: $request->{body}") . $body
        : head($request, @fields, 'Transfer-Encoding: chunked')
            . chunks($body);
}

sub upload {
    my ($self) = @_;
    my $request = $self->make(method => 'POST', body => size());
    my $bytes = posted($request, 'Connection: close');
    $request->{asked} = time;
    my $conn = $self->connect_anew;
    if (rand() < 0.3) {                 # slowly
        my $piece = 1 + int(length($bytes) / 10);
        while (length $bytes > $piece) {
            $conn->send(substr $bytes, 0, $piece, '') or last;
            sleep rand 0.05;
        }
    }
    $conn->send($bytes);
    return $self->judge($request, 'upload',
                        $self->answer_of($request, $conn));
}

# To where a body goes to the application as it comes, of a known length.
sub stream_upload {
    my ($self) = @_;
    my $request = $self->make(method => 'POST', body => size(),
                              path => '/stream', how => 'plain', good => 1);
    $request->{asked} = time;
    my $conn = $self->connect_anew;
    $conn->send(head($request, 'Connection: close',
                     "Content-Length: $request->{body}"));
    $conn->send($_), sleep rand 0.02
        for unpack '(a40000)*', body_of($request);
    return $self->judge($request, 'stream_upload',
                        $self->answer_of($request, $conn));
}

sub read_slowly {
    my ($self) = @_;
    my $request = $self->make(size => int(rand 3 * $MB), good => 1);
    $request->{asked} = time;
    my $conn = $self->connect_anew(rcvbuf => 4096);
    $conn->send(head($request, 'Connection: close'));
    for (1 .. 20) {
        $conn->fill(time);
        sleep rand 0.1;
    }
    setsockopt $conn->{socket}, SOL_SOCKET, SO_RCVBUF, $MB;
    return $self->judge($request, 'read_slowly',
                        $self->answer_of($request, $conn));
}

# Closes or resets its connection at any moment.
sub leave {
    my ($self) = @_;
    my $request = rand() < 0.5 ? $self->make(size => any(size(), 2 * $MB))
        : $self->make(method => 'POST', body => size());
    my $bytes = $request->{body} ? posted($request) : head($request);
    $bytes = substr $bytes, 0, int rand length $bytes if rand() < 0.3;
    $request->{asked} = time;
    my $conn = $self->connect_anew;
    $conn->send($bytes);
    sleep rand any(0.01, 0.3);
    rand() < 0.5 ? $conn->reset : $conn->close;
    return $self->note(%$request, kind => 'leave', verdict => 'left',
                       ended => time);
}

sub half_close {
    my ($self) = @_;
    my $request = $self->make(path => '/half');
    $request->{asked} = time;
    my $conn = $self->connect_anew;
    $conn->send(head($request, rand() < 0.5 ? 'Connection: close' : ()));
    $conn->shutdown_write;
    return $self->judge($request, 'half_close',
                        $self->answer_of($request, $conn));
}

sub pipeline {
    my ($self) = @_;
    my @requests = map { $self->make(good => 1) } 1 .. 3;
    $_->{asked} = time for @requests;
    my $conn = $self->connect_anew;
    $conn->send(join '', map { head($_) } @requests);
    for my $request (@requests) {
        my $answer = $self->answer_of($request, $conn);
        $self->judge($request, 'pipeline', $answer);
        last if !$answer->{complete}
            || ($answer->header('Connection') // '') =~ /close/i;
    }
    return;
}

sub wait_in_vain {
    my ($self) = @_;
    my $request = $self->make(path => '/impatient', how => 'silent');
    $request->{asked} = time;
    my $conn = $self->connect_anew;
    $conn->send(head($request, 'Connection: close'));
    return $self->judge($request, 'wait_in_vain',
                        $self->answer_of($request, $conn));
}

sub stream {
    my ($self) = @_;
    my $request = $self->make(path => any('/one', '/two'), how => 'events',
                              good => 1, size => 100 + int rand 3000);
    $request->{asked} = time;
    my $conn = $self->connect_anew;
    $conn->send(head($request, 'Connection: close'));
    return $self->judge($request, 'stream',
                        $self->answer_of($request, $conn));
}

# ---- TLS and HTTP/2 ----

sub any_way {
    my ($self) = @_;
    my ($http, $https) = map { "127.0.0.1:" . $self->{httpd}->$_ }
        qw(port tls_port);
    return any(['tls', "https://$https", '--http1.1'],
               $self->{h2} ? (['h2', "https://$https", '--http2'],
                              ['h2c', "http://$http",
                               '--http2-prior-knowledge']) : ());
}

sub by_curl {
    my ($self) = @_;
    my ($kind, $server, $option) = @{ $self->any_way };
    my $request = rand() < 0.7 ? $self->make
        : $self->make(method => 'POST', body => size());
    return $self->run_curl($kind, [$request], $option, '-k',
                           $self->curl_arguments($server, $request));
}

# Several streams of one connection; over TLS, for without it curl makes two
# connections of one. All answers have a length: where two streams end at one
# moment, and one of them is reset, curl takes the code of one for both.
sub at_once {
    my ($self) = @_;
    my $server = 'https://127.0.0.1:' . $self->{httpd}->tls_port;
    my @requests = map { $self->make(length => 1) } 1 .. 2 + int rand 6;
    my @arguments = map {
        ($_ ? '--next' : (), '--http2', '-k',
         $self->curl_arguments($server, $requests[$_]));
    } 0 .. $#requests;
    return $self->run_curl('h2, several', \@requests, '--parallel',
                           '--parallel-max', 8, @arguments);
}

sub curl_arguments {
    my ($self, $server, $request) = @_;
    my $file = "$self->{dir}/$self->{number}.$request->{id}";
    my @body;
    if ($request->{body}) {
        Private::spew("$file.body", body_of($request));
        @body = ('-H', 'Expect:', '-H', 'Content-Type: text/plain',
                 '--data-binary', "\@$file.body");
    }
    return (qw(-sS --max-time), $PATIENCE, @body, '-o', $file,
            '-w', "$request->{id} %{http_code} %{exitcode}\\n",
            "$server$request->{url}");
}

sub run_curl {
    my ($self, $kind, $requests, @arguments) = @_;
    $_->{asked} = time for @$requests;
    my (undef, $output) = Private::run('curl', '-q', @arguments);
    for my $request (@$requests) {
        my $file = "$self->{dir}/$self->{number}.$request->{id}";
        my ($status, $exit) = $output =~ /^$request->{id} 0*(\d+) (\d+)$/m;
        my $body = Private::slurp($file);
        unlink $file, "$file.body";
        $self->judge($request, $kind, {
            status => $status, body => $body,
            complete => defined $exit && $exit == 0,
            error => 'curl ' . ($exit // $output =~ s/\s+/ /gr) });
    }
    return;
}

1;
