# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# Chromium without a window, told what to do through a pair of pipes: JSON
# that ends with a NUL, as its DevTools protocol has it.
#
#     Browser::program()              # where it is, undef if nowhere
#     my $browser = Browser->start;
#     $browser->open_page;            # one of its own, which runs no scripts
#     $browser->look_like('dark', 1240);
#     $browser->go($url); $browser->events('Network.requestWillBeSent')
#     $browser->html; $browser->painted; $browser->screenshot  # a PNG
#     $browser->command('Page.getLayoutMetrics')
#     $browser->stop;
package Browser;

use strict;
use warnings;
use JSON::PP ();
use MIME::Base64 ();
use POSIX ();
use Private;
use Time::HiRes qw(time);

my $PATIENCE = 60;      # seconds for a browser on a busy machine

sub program {
    my ($program) = grep { -x }
        map { ("$_/chromium", "$_/chromium-browser") } split /:/, $ENV{PATH};
    return $program;
}

sub start {
    my ($class) = @_;
    my $program = program();
    my $self = bless { dir => Private::temp_dir('browser'), number => 0,
                       buffer => '', events => [] }, $class;
    pipe my $commands, $self->{to} or die $!;
    pipe $self->{from}, my $answers or die $!;
    my @fds = (fileno $commands, fileno $answers);
    $self->{pid} = Private::spawn(code => sub {
        # first away from where they are to be
        my @high = map { POSIX::dup($_) } @fds;
        POSIX::dup2($high[0], 13);
        POSIX::dup2($high[1], 14);
        POSIX::dup2(13, 3);
        POSIX::dup2(14, 4);
        open STDIN, '<', '/dev/null';
        open STDOUT, '>', "$self->{dir}/output";
        open STDERR, '>&', \*STDOUT;
        @ENV{qw(HOME TMPDIR)} = ("$self->{dir}") x 2;
        exec $program, qw(--headless --no-sandbox --disable-gpu
            --disable-dev-shm-usage --hide-scrollbars --no-first-run
            --disable-background-networking --disable-component-update
            --disable-default-apps --disable-sync --mute-audio
            --remote-debugging-pipe), "--user-data-dir=$self->{dir}/profile",
            'about:blank';
    });
    close $_ for $commands, $answers;
    $self->{to}->autoflush(1);
    return $self;
}

# The next message, or undef after the deadline or when it is gone.
sub message {
    my ($self, $deadline) = @_;
    while ($self->{buffer} !~ /\0/) {
        my $left = $deadline - time;
        my $read = '';
        vec($read, fileno $self->{from}, 1) = 1;
        return undef if $left <= 0 || !select $read, undef, undef, $left;
        sysread $self->{from}, $self->{buffer}, 1 << 20,
            length $self->{buffer} or return undef;
    }
    $self->{buffer} =~ s/^([^\0]*)\0//;
    return JSON::PP->new->utf8->decode($1);
}

sub command {
    my ($self, $method, %params) = @_;
    my $id = ++$self->{number};
    my %message = (id => $id, method => $method, params => \%params,
                   $self->{session} ? (sessionId => $self->{session}) : ());
    print { $self->{to} } JSON::PP->new->utf8->encode(\%message) . "\0";
    my $deadline = time + $PATIENCE;
    while (my $answer = $self->message($deadline)) {
        if (($answer->{id} // 0) != $id) {
            push @{ $self->{events} }, $answer;
            next;
        }
        die "$method: $answer->{error}{message}\n" if $answer->{error};
        return $answer->{result};
    }
    die "$method: no answer\n" . Private::slurp("$self->{dir}/output");
}

# All events of that name since the last page was asked for.
sub events {
    my ($self, $name) = @_;
    return map { $_->{params} }
        grep { ($_->{method} // '') eq $name } @{ $self->{events} };
}

# A page of its own, which runs no scripts.
sub open_page {
    my ($self) = @_;
    my $target = $self->command('Target.createTarget', url => 'about:blank');
    $self->{session} = $self->command(
        'Target.attachToTarget', targetId => $target->{targetId},
        flatten => JSON::PP::true)->{sessionId};
    $self->command("$_.enable") for qw(Page Network DOM Log);
    $self->command('Emulation.setScriptExecutionDisabled',
                   value => JSON::PP::true);
    return;
}

sub look_like {
    my ($self, $scheme, $width) = @_;
    $self->command('Emulation.setEmulatedMedia', features => [
        { name => 'prefers-color-scheme', value => $scheme }]);
    $self->command('Emulation.setDeviceMetricsOverride', width => $width,
                   height => 900, deviceScaleFactor => 1,
                   mobile => $width < 600 ? JSON::PP::true
                                          : JSON::PP::false);
    return;
}

# Goes there and waits until it is shown, whatever refreshes itself meanwhile.
sub go {
    my ($self, $url) = @_;
    @{ $self->{events} } = ();
    my $result = $self->command('Page.navigate', url => $url);
    die "$url: $result->{errorText}\n" if $result->{errorText};
    my $deadline = time + $PATIENCE;
    my ($i, $there) = (0, 0);
    while (1) {
        push @{ $self->{events} }, $self->message($deadline)
            // die "$url: not shown\n" if $i > $#{ $self->{events} };
        my $event = $self->{events}[$i++];
        my $name = $event->{method} // '';
        $there = 1 if $name eq 'Page.frameNavigated'
            && $event->{params}{frame}{loaderId} eq $result->{loaderId};
        return if $there && $name eq 'Page.loadEventFired';
    }
}

sub html {
    my ($self) = @_;
    my $root = $self->command('DOM.getDocument', depth => 0)->{root};
    return $self->command('DOM.getOuterHTML',
                          nodeId => $root->{nodeId})->{outerHTML};
}

# Every piece of text and every element as it is painted: { tag, text,
# box => [x, y, width, height], colour and ground => [r, g, b] }. A ground is
# that of the innermost element around which has one.
sub painted {
    my ($self) = @_;
    my $shot = $self->command(
        'DOMSnapshot.captureSnapshot',
        computedStyles => ['color', 'background-color']);
    my ($document) = @{ $shot->{documents} };
    my $strings = $shot->{strings};
    my ($nodes, $layout) = @$document{qw(nodes layout)};
    my (@found, %ground);
    for my $i (0 .. $#{ $layout->{nodeIndex} }) {
        my $node = $layout->{nodeIndex}[$i];
        my ($text, $colour, $ground) = map { $_ < 0 ? '' : $strings->[$_] }
            $layout->{text}[$i], @{ $layout->{styles}[$i] }, -1, -1;
        my $around = $nodes->{parentIndex}[$node];
        $ground{$node} = $ground =~ /^(?:rgba\(.*, 0\))?$/
            ? $ground{$around} // [255, 255, 255] : colour($ground);
        push @found, {
            tag => lc $strings->[$nodes->{nodeName}[$node]], text => $text,
            box => $layout->{bounds}[$i], colour => colour($colour),
            ground => $ground{$node} };
    }
    return @found;
}

sub colour {
    my ($text) = @_;
    return [$text =~ /^rgb\((\d+), (\d+), (\d+)\)$/];
}

sub screenshot {
    my ($self) = @_;
    return MIME::Base64::decode_base64($self->command(
        'Page.captureScreenshot', format => 'png',
        captureBeyondViewport => JSON::PP::true)->{data});
}

sub stop {
    my ($self) = @_;
    return Private::end($self->{pid}, 'TERM', 5);
}

1;
